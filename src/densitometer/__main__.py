"""``python -m densitometer`` is the command ``densitometer``."""

import sys

from densitometer.cli import main

if __name__ == "__main__":
    sys.exit(main())
