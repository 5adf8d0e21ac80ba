"""What processes share: how many there are, how libraries behave in them, and that none is left."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from multiprocessing import connection
from pathlib import Path

from threadpoolctl import threadpool_limits

from densitometer.errors import UsageError
from densitometer.system.files import cache_folder

PLATFORMS = {"cpu": "cpu", "gpu": "cuda,cpu"}
"""What JAX calls a device."""

HEARD = (
    "JAX_PLATFORMS",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_COMPILATION_CACHE",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE",
    "JAX_LOG",
)
"""How those of JAX's settings begin that a person's environment may choose: where, not what."""

FLAGS = ["--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]
"""For XLA: one thread a process."""

SAME_KERNELS = "--xla_gpu_autotune_level=0"
"""For XLA on an accelerator: no trial runs decide how a product is computed, so it is always so."""

KEEP_FREED = {-1: 256 << 20, -3: 32 << 20}
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (at most this), in bytes."""


def cores() -> list[int]:
    """The processor cores this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    allowed = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # a container's share, where it has one
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = allowed[: max(1, int(quota) // int(period))]
    return allowed


def settle(device: str | None = None) -> None:
    """Tell the numerical libraries to use one thread, and JAX to remember what it has compiled.

    It has an effect before they are imported only. What else a person's environment tells JAX would
    change numbers, and pictures if it told Matplotlib, and is not heard. Results do not depend on
    what is remembered; a memory that cannot be written or is damaged (JAX writes it carelessly)
    costs a compilation, and is nothing to tell a person.

    Args:
        device: what to compute on; None leaves it to the environment, and without a word of it is
            the CPU.
    """
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("default")  # what a library warns of ends no study
    for message in ("persistent compilation cache", "joblib will operate in serial mode"):
        warnings.filterwarnings("ignore", message=f"(?s).*{message}")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # nor is where it keeps its fonts
    for name in [*os.environ]:
        if name.startswith(("JAX_", "EQX_")) and not name.startswith(HEARD):
            del os.environ[name]
    flags = [*_own_flags(), *FLAGS]
    if device is not None:
        os.environ["JAX_PLATFORMS"] = PLATFORMS[device]
    if device == "gpu":
        flags.append(SAME_KERNELS)
        # One thread, our choice for the CPU (below), would compile hundreds of kernels in turn.
        os.environ.pop("PJRT_NPROC", None)
    else:
        # Else the order of sums depends on how many cores a process may use.
        os.environ["PJRT_NPROC"] = "1"
    os.environ["XLA_FLAGS"] = " ".join(flags)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    threadpool_limits(1)  # of what NumPy has loaded already, which does not look again
    os.environ["MPLBACKEND"] = "agg"
    for name, value in {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }.items():
        os.environ.setdefault(name, value)
    if (caches := cache_folder()) is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(caches / "jax"))
    _keep_freed_memory()


def _own_flags() -> list[str]:
    """What the environment tells XLA that we do not."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return [flag for flag in flags if flag not in (*FLAGS, SAME_KERNELS)]


def _keep_freed_memory() -> None:
    """Keep what is freed for what comes next, the same in every process.

    An array of a few MB is asked for and freed thousands of times. Where each goes back to the
    system, as a worker of Dask does it by default, a cell takes 30 % longer.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in KEEP_FREED.items():
            mallopt(parameter, value)


def check_device(device: str | None = None) -> None:
    """See that JAX starts as the environment tells it to, and that it computes on `device`.

    To be called after `settle`. Where the environment says nothing of its own there is nothing to
    see; else another process is asked, since one that has started JAX holds on to an accelerator.

    Args:
        device: what has to be computed on; None if that may be whatever the environment says.

    Raises:
        UsageError: JAX does not start, or computes on something else.
    """
    platforms = os.environ["JAX_PLATFORMS"]
    told = [f"JAX_PLATFORMS={platforms}"] * (platforms != PLATFORMS["cpu"])
    told += [f"XLA_FLAGS={' '.join(_own_flags())}"] * bool(_own_flags())
    if told:
        found, why = _asked(platforms)
        if not found:
            raise UsageError(
                f"JAX does not start here with {' and '.join(told)} in the environment ({why}); "
                "leave that out."
            )
        if device == "cpu" and found != "cpu":
            raise UsageError(
                f"the plan is to compute on the cpu, and {told[0]} in the environment is to "
                f"compute on a {found}; leave that out."
            )
    if device == "gpu":
        found, why = _asked(PLATFORMS[device])
        if found != device:
            raise UsageError(
                f"JAX can use no {device} here ({why}); install densitometer[cuda] on a "
                "machine that has one, or leave out --device."
            )


def _asked(platforms: str) -> tuple[str, str]:
    """What JAX computes on with some choice of platforms, nothing if it does not start; and why."""
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.devices()[0].platform)"],
        env=os.environ | {"JAX_PLATFORMS": platforms, "JAX_TRACEBACK_FILTERING": "off"},
        capture_output=True,
        text=True,
    )
    if asked.returncode == 0:
        found = asked.stdout.split()[-1]
        return found, f"it found a {found} only"
    return "", (asked.stderr.strip().splitlines() or ["no reason given"])[-1][:200]


def die_with_parent() -> None:
    """End this process when the one that started it has ended, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
