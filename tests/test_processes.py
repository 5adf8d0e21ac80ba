"""What a process computes does not depend on what else the machine has."""

import json
import os
import platform
import subprocess
import sys
import warnings

import pytest

from densitometer.errors import UsageError
from densitometer.system.processes import FLAGS, check_device, configure_numerics, cores

FIT = """
import os, sys
os.sched_setaffinity(0, eval(sys.argv[1]))
from densitometer.system.processes import configure_numerics
configure_numerics()
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
from densitometer.system.processes import configure_numerics
configure_numerics()
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


CONFIGURE = """
import json, os, sys
from densitometer.system.processes import configure_numerics
configure_numerics(*sys.argv[1:])
import jax, numpy
settings = {name: str(value) for name, value in jax.config.values.items()}
print(json.dumps([dict(os.environ), settings, str(jax.devices()[0].platform)]))
"""

OTHER_SETTINGS = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_DISABLE_JIT": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_PLATFORM_NAME": "tpu",
    "EQX_ON_ERROR": "nan",
    "MPLBACKEND": "nonsense",
    "OMP_NUM_THREADS": "7",
    "PJRT_NPROC": "2",
    "JAX_COMPILATION_CACHE_DIR": "/elsewhere",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=false --xla_cpu_multi_thread_eigen=false",
}


def configured(environment, *device):
    run = subprocess.run(
        [sys.executable, "-c", CONFIGURE, *device], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_what_an_environment_tells_jax_changes_no_number():
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PJRT_"))}
    _, expected, _ = configured(plain)
    environment, settings, platform = configured(plain | OTHER_SETTINGS)
    assert settings.pop("jax_compilation_cache_dir") == "/elsewhere"
    del expected["jax_compilation_cache_dir"]
    assert settings == expected
    assert platform == "cpu"
    assert environment["MPLBACKEND"] == "agg"
    assert environment["OMP_NUM_THREADS"] == environment["PJRT_NPROC"] == "1"
    assert environment["XLA_FLAGS"].split() == ["--xla_cpu_enable_fast_math=false", *FLAGS]
    assert "EQX_ON_ERROR" not in environment


def test_a_plan_says_what_is_computed_on_and_else_the_environment_may(monkeypatch):
    for told, device, expected in [
        (None, [], "cpu"),
        ("tpu", [], "tpu"),
        ("tpu", ["cpu"], "cpu"),
        ("tpu", ["gpu"], "cuda,cpu"),
    ]:
        monkeypatch.setattr(os, "environ", {"JAX_PLATFORMS": told} if told else {})
        monkeypatch.setattr(warnings, "filterwarnings", lambda *_, **__: None)
        configure_numerics(*device)
        assert os.environ["JAX_PLATFORMS"] == expected


def test_nobody_without_a_home_compiles_without_a_memory(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(warnings, "filterwarnings", lambda *_, **__: None)
    monkeypatch.setattr("densitometer.system.processes.cache_folder", lambda: None)
    configure_numerics()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


@pytest.mark.parametrize(
    ("told", "device", "answers", "sentence"),
    [
        ({}, "cpu", {}, None),
        ({}, None, {}, None),
        ({"JAX_PLATFORMS": "cuda,cpu"}, "cpu", {"cuda,cpu": ("cpu", "")}, None),
        ({"JAX_PLATFORMS": "cuda"}, None, {"cuda": ("gpu", "")}, None),
        ({}, "gpu", {"cuda,cpu": ("gpu", "")}, None),
        (
            {"JAX_PLATFORMS": "cuda"},
            None,
            {"cuda": ("", "no CUDA")},
            "JAX does not start here with JAX_PLATFORMS=cuda in the environment (no CUDA); leave "
            "that out.",
        ),
        (
            {"XLA_FLAGS": f"--nosuch {FLAGS[0]}"},
            "cpu",
            {"cpu": ("", "unknown flag")},
            "JAX does not start here with XLA_FLAGS=--nosuch in the environment (unknown flag); "
            "leave that out.",
        ),
        (
            {"JAX_PLATFORMS": "cuda"},
            "cpu",
            {"cuda": ("gpu", "")},
            "the plan is to compute on the cpu, and JAX_PLATFORMS=cuda in the environment is to "
            "compute on a gpu; leave that out.",
        ),
        (
            {},
            "gpu",
            {"cuda,cpu": ("cpu", "it found a cpu only")},
            "JAX can use no gpu here (it found a cpu only); install densitometer[cuda] on a "
            "machine that has one, or leave out --device.",
        ),
    ],
)
def test_jax_has_to_start_on_the_device_that_is_asked_for(
    monkeypatch, told, device, answers, sentence
):
    monkeypatch.setattr(os, "environ", {"JAX_PLATFORMS": "cpu", **told})
    monkeypatch.setattr("densitometer.system.processes._device_found", answers.__getitem__)
    if sentence is None:
        check_device(device)
    else:
        with pytest.raises(UsageError) as refused:
            check_device(device)
        assert str(refused.value) == sentence


def test_a_platform_that_is_not_there_ends_a_command_with_a_sentence(tmp_path):
    command = "densitometer study --budget smoke --families vae --targets spiral --out"
    told = subprocess.run(
        [sys.executable, "-m", *command.split(), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
    )
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert line.startswith(
        "densitometer: JAX does not start here with JAX_PLATFORMS=nonsense in the environment ("
    )
    assert not (tmp_path / "out").exists()


WARNED = """
import sys, warnings
from densitometer.system.processes import configure_numerics
configure_numerics()
for message in sys.argv[1:]:
    warnings.warn(message)
"""


def test_what_a_library_warns_of_is_an_error_for_nobody_and_some_of_it_is_not_told():
    told = subprocess.run(
        [
            *(sys.executable, "-c", WARNED, "this is old"),
            "Error writing persistent compilation cache entry",
            "[Errno 30] Read-only file system.  joblib will operate in serial mode",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    assert told.returncode == 0, told.stderr
    assert [line for line in told.stderr.splitlines() if "Warning" in line] == [
        "<string>:6: UserWarning: this is old"
    ]
