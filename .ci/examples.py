"""Run the Python examples of Markdown files, those of one file after another as one program."""

import re
import sys
from pathlib import Path

for name in sys.argv[1:]:
    text, words = Path(name).read_text(encoding="utf-8"), {"__name__": "example"}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        # As many lines before it as in the file, so that a traceback names the right one.
        above = text.count("\n", 0, block.start(1))
        exec(compile("\n" * above + block[1], name, "exec"), words)
