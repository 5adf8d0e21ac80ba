"""Every test runs under the strictest settings JAX has."""

import os
from pathlib import Path

# One core per test process: the suite itself runs in parallel.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Test processes share their compiled programs, and so do later runs.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache/jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a module's tests, and in `test_conformance` a family's, in one process.

    They share fitted models and compiled programs, which are most of what the suite costs.
    """
    for item in items:
        group = item.nodeid.partition("::")[0]
        if item.path.name == "test_conformance.py":
            group += f"[{item.callspec.params['name']}]"
        item.add_marker(pytest.mark.xdist_group(group))
