"""What a process computes does not depend on what else the machine has."""

import os
import platform
import subprocess
import sys

import pytest

from densitometer.processes import cores

FIT = """
import os, sys
os.sched_setaffinity(0, eval(sys.argv[1]))
from densitometer.processes import settle
settle()
import jax
import densitometer as dm
draw = dm.targets.get("gaussian_mixture").sample
train, holdout = draw(jax.random.key(0), 2000), draw(jax.random.key(1), 500)
fit = dm.fit(dm.families.get("vae", steps=100), train, holdout)
print(fit.curves_csv())
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(cores()) < 2, reason="there is one core"
)
def test_the_numbers_do_not_depend_on_how_many_cores_a_process_may_use():
    told = [
        subprocess.run(
            [sys.executable, "-c", FIT, str(set(allowed))], capture_output=True, text=True
        )
        for allowed in (cores()[:1], cores()[:2])
    ]
    assert [run.returncode for run in told] == [0, 0], told[0].stderr
    assert told[0].stdout == told[1].stdout


FAULTS = """
import resource, numpy
from densitometer.processes import settle
settle()
pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
again = lambda: numpy.ones(1 << 17)  # 1 MiB
again(), again()
before = pages()
for _ in range(20): again()
print(pages() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_what_comes_next_whatever_dask_says():
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as its workers have it
    told = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, env=environment
    )
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) < 20 * (1 << 20) / os.sysconf("SC_PAGE_SIZE") / 10
