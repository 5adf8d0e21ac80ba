"""Processes: how many cores they have, how numerical libraries behave in them, how they end."""

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
"""JAX's name of a device."""

ALLOWED = (
    "JAX_PLATFORMS",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_COMPILATION_CACHE",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE",
    "JAX_LOG",
)
"""Beginnings of the JAX settings that the environment may make: where to compute, not what."""

FLAGS = ["--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]
"""For XLA: one thread a process."""

SAME_KERNELS = "--xla_gpu_autotune_level=0"
"""For XLA on an accelerator: no timing of trial runs decides how a product is computed."""

KEEP_FREED = {-1: 256 << 20, -3: 32 << 20}
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (at most this), in bytes."""


def cores() -> list[int]:
    """The processor cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    allowed = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # a container's share, where it has one
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = allowed[: max(1, int(quota) // int(period))]
    return allowed


def configure_numerics(device: str | None = None) -> None:
    """Make the numerical libraries use one thread, and JAX cache what it has compiled.

    This has an effect only before they are imported. Settings of JAX in the environment that would
    change numbers are removed, and Matplotlib's, which would change pictures, is overridden.
    Results do not depend on the cache: one that cannot be written or is damaged (JAX does not write
    it atomically) costs a compilation, and is not worth a warning.

    Args:
        device: what to compute on; None leaves it to the environment, which by default means the
            CPU.
    """
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("default")  # a library's warning must not end a study
    for message in ("persistent compilation cache", "joblib will operate in serial mode"):
        warnings.filterwarnings("ignore", message=f"(?s).*{message}")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # or it reports building its font cache
    for name in [*os.environ]:
        if name.startswith(("JAX_", "EQX_")) and not name.startswith(ALLOWED):
            del os.environ[name]
    flags = [*_own_flags(), *FLAGS]
    if device is not None:
        os.environ["JAX_PLATFORMS"] = PLATFORMS[device]
    if device == "gpu":
        flags.append(SAME_KERNELS)
        # With one thread, our choice for the CPU, hundreds of kernels would be compiled in turn.
        os.environ.pop("PJRT_NPROC", None)
    else:
        # Otherwise the order of sums depends on how many cores a process may use.
        os.environ["PJRT_NPROC"] = "1"
    os.environ["XLA_FLAGS"] = " ".join(flags)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    threadpool_limits(1)  # of libraries that NumPy has loaded, which do not read these again
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
    """The flags for XLA in the environment that are not ours."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return [flag for flag in flags if flag not in (*FLAGS, SAME_KERNELS)]


def _keep_freed_memory() -> None:
    """Have the C library reuse freed memory rather than return it to the system.

    An array of a few MB is allocated and freed thousands of times. Where each goes back to the
    system, as in a Dask worker by default, a cell takes 30 % longer.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # a C library other than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in KEEP_FREED.items():
            mallopt(parameter, value)


def check_device(device: str | None = None) -> None:
    """Check that JAX starts in this environment, and that it computes on `device`.

    To be called after `configure_numerics`. An environment without settings of its own needs no
    check; otherwise another process tries, since one that has started JAX holds the accelerator.

    Args:
        device: what has to be computed on; None if the environment may choose.

    Raises:
        UsageError: JAX does not start, or computes on something else.
    """
    platforms = os.environ["JAX_PLATFORMS"]
    settings = [f"JAX_PLATFORMS={platforms}"] * (platforms != PLATFORMS["cpu"])
    settings += [f"XLA_FLAGS={' '.join(_own_flags())}"] * bool(_own_flags())
    if settings:
        found, why = _device_found(platforms)
        if not found:
            raise UsageError(
                f"JAX does not start here with {' and '.join(settings)} in the environment "
                f"({why}); leave that out."
            )
        if device == "cpu" and found != "cpu":
            raise UsageError(
                f"the plan is to compute on the cpu, and {settings[0]} in the environment is to "
                f"compute on a {found}; leave that out."
            )
    if device == "gpu":
        found, why = _device_found(PLATFORMS[device])
        if found != device:
            raise UsageError(
                f"JAX can use no {device} here ({why}); install densitometer[cuda] on a "
                "machine that has one, or leave out --device."
            )


def _device_found(platforms: str) -> tuple[str, str]:
    """The device that JAX chooses of some platforms, "" if it does not start; and why no other."""
    tried = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.devices()[0].platform)"],
        env=os.environ | {"JAX_PLATFORMS": platforms, "JAX_TRACEBACK_FILTERING": "off"},
        capture_output=True,
        text=True,
    )
    if tried.returncode == 0:
        found = tried.stdout.split()[-1]
        return found, f"it found a {found} only"
    return "", (tried.stderr.strip().splitlines() or ["no reason given"])[-1][:200]


def die_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however it ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
