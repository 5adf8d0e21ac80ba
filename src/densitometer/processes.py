"""What processes share: how many there are, how libraries behave in them, and that none is left."""

import contextlib
import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from multiprocessing import connection
from pathlib import Path

from densitometer.errors import UsageError
from densitometer.files import cache_folder

PLATFORMS = {"gpu": "cuda,cpu"}
"""What JAX calls a device. Its own choice of products in half precision would spoil densities."""

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


def settle(device: str = "cpu") -> None:
    """Tell the numerical libraries to use one thread, and JAX to remember what it has compiled.

    It has an effect before they are imported only. Results do not depend on what is remembered; a
    damaged memory (JAX writes it carelessly) costs a compilation, and is nothing to tell a person.
    The environment may choose what JAX computes on where we ask for nothing but the CPU.
    """
    warnings.filterwarnings("ignore", message=".*persistent compilation cache")
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if f not in (*FLAGS, SAME_KERNELS)]
    flags += FLAGS
    if device in PLATFORMS:
        flags.append(SAME_KERNELS)
        os.environ |= {
            "JAX_PLATFORMS": PLATFORMS[device],
            "JAX_DEFAULT_MATMUL_PRECISION": "float32",
        }
        # One thread, our choice for the CPU (below), would compile hundreds of kernels in turn.
        os.environ.pop("PJRT_NPROC", None)
    else:
        # Else the order of sums depends on how many cores a process may use.
        os.environ.setdefault("PJRT_NPROC", "1")
    os.environ["XLA_FLAGS"] = " ".join(flags)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    for name, value in {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }.items():
        os.environ.setdefault(name, value)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Keep what is freed for what comes next, the same in every process.

    An array of a few MB is asked for and freed thousands of times. Where each goes back to the
    system, as a worker of Dask does it by default, a cell takes 30 % longer.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in KEEP_FREED.items():
            mallopt(parameter, value)


def check_device(device: str) -> None:
    """See, in a process of its own, whether JAX has such a device.

    Raises:
        UsageError: it has none.
    """
    if device in PLATFORMS:
        asked = subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"],
            env=os.environ | {"JAX_PLATFORMS": PLATFORMS[device]},
            capture_output=True,
            text=True,
        )
        if asked.returncode != 0:
            why = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UsageError(
                f"JAX can use no {device} here ({why[:200]}); install densitometer[cuda] on a "
                "machine that has one, or leave out --device."
            )


def die_with_parent() -> None:
    """End this process when the one that started it has ended, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
