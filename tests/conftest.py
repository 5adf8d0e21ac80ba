"""Every test runs under the strictest settings JAX has."""

import gc
import os
import re
from pathlib import Path
from typing import Any

# One core per test process: the suite itself runs in parallel, and the order of a product's sums
# depends on how many threads share it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import pytest
from threadpoolctl import threadpool_limits
from xdist.scheduler import LoadScopeScheduling

threadpool_limits(1)  # a plugin may have imported NumPy before

# Arguments and results are checked in every module that tells the shapes of arrays. It costs up to
# a fifth of a test's time; where there are no arrays, pyright has seen the same.
SOURCE = Path(__file__).parents[1] / "src"
jaxtyping.install_import_hook(
    [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in SOURCE.rglob("*.py")
        if "from jaxtyping import" in path.read_text()
    ],
    "beartype.beartype",
)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Test processes share their compiled programs, and so do later runs.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache/jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
# A test that compiles spends a twentieth of its time looking for garbage in what JAX traces.
gc.set_threshold(100_000, 50, 50)


class _Together(LoadScopeScheduling):
    """Keeps a module's tests, and in `test_conformance` a family's, in one process.

    They share fitted models and compiled programs, which are most of what the suite costs. (Not by
    `--dist loadgroup`: with pytest 9.2 it ignores its marks.)
    """

    def _split_scope(self, nodeid: str) -> str:
        from densitometer.families import FAMILIES  # not above: types are checked from the start

        module, _, test = nodeid.partition("::")
        if not module.endswith("test_conformance.py"):
            return module
        return module + next(w for w in re.split(r"[\[\]-]", test) if w in FAMILIES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together:
    return _Together(config, log)
