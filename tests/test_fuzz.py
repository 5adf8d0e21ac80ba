"""Whatever a file holds, a reader gives what was written or one sentence.

The short form; `benchmarks/reliability.py` has the long one.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import densitometer as dm
from densitometer import checkpoint
from densitometer.points import check_points
from densitometer.study.plan import Plan
from densitometer.system.files import read_points, read_sealed, sealed
from mangle import hostile_models, mangled

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def model():
    family = dm.families.get("ebm", width=8, depth=1)
    points = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)), jnp.float32)
    state = family.init(jax.random.key(0), points)
    return checkpoint.encode_model(family.model(state), family)


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    """A good file of every kind, by name."""
    folder = tmp_path_factory.mktemp("good")
    points = np.random.default_rng(0).normal(size=(300, 2))
    np.save(folder / "x.npy", points.astype(np.float32))
    np.savetxt(folder / "x.csv", points, delimiter=",")
    (folder / "plan.toml").write_text(
        'budget = "smoke"\ntargets = ["spiral"]\nseeds = 3\n[families.ddpm]\nwidth = [64, 128]\n'
    )
    (folder / "plan.json").write_text(Plan.make({"gan": {}}, ["spiral"]).to_json())
    (folder / "model.safetensors").write_bytes(model)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


READERS = {
    "x.npy": lambda path: check_points(read_points(path), "x"),
    "x.csv": lambda path: check_points(read_points(path), "x"),
    "plan.toml": Plan.from_file,
    "plan.json": Plan.from_file,
    "model.safetensors": dm.load,
}


def reads(reader, path):
    """Whether a file can be read; if not, that is told in one line."""
    sentence = None
    try:
        reader(path)
    except dm.UsageError as error:
        sentence = str(error)
    assert sentence is None or "\n" not in sentence
    return sentence is None


@pytest.mark.parametrize("name", READERS)
def test_a_mangled_file_is_read_or_is_a_sentence(name, good, tmp_path):
    path, seen = tmp_path / name, []

    @EXAMPLES
    @given(st.integers(0, 2**32))
    def each(seed):
        path.write_bytes(mangled(good[name], np.random.default_rng(seed)))
        seen.append(reads(READERS[name], path))

    each()
    path.write_bytes(good[name])
    assert reads(READERS[name], path)
    assert not all(seen)


def test_a_hostile_model_is_a_sentence(model, tmp_path):
    path = tmp_path / "model.safetensors"
    read = []
    for content in hostile_models(model):
        path.write_bytes(content)
        read.append(reads(dm.load, path))
    assert len(read) > 150
    # Steps, rates and the like do not change what the file holds: such a model may be read.
    assert sum(read) < len(read) / 5


words = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
values = st.recursive(words, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=10)
names = st.sampled_from(["families", "targets", "seeds", "budget", "device", "protocol", "x"])
likely = st.sampled_from(["ddpm", "ddpm.a", "spiral", "smoke", "gpu", "width", "n_test", 3, [0, 1]])
deeper = st.dictionaries(st.sampled_from(["ddpm", "gan.x", "n_test", "width"]), likely | values)


def test_a_plan_of_anything_is_a_plan_or_a_sentence(tmp_path):
    path = tmp_path / "plan.json"

    @EXAMPLES
    @given(st.dictionaries(names, likely | deeper | st.lists(likely) | values))
    def each(plan):
        path.write_text(json.dumps(plan))
        reads(Plan.from_file, path)

    each()


def test_a_manifest_of_anything_gives_what_was_written_or_a_sentence(tmp_path):
    files = sealed({"a": b"1", "b": b"2"})

    @EXAMPLES
    @given(st.integers(0, 2**32), st.sampled_from(sorted(files)))
    def each(seed, damaged):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        (tmp_path / damaged).write_bytes(mangled(files[damaged], np.random.default_rng(seed)))
        if reads(read_sealed, tmp_path):
            given = read_sealed(tmp_path)
            assert all(given[name] == files[name] for name in given)

    each()
