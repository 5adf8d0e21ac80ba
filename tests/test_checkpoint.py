import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer import checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    family = dm.families.get("vae", width=8, depth=1)
    state = family.init(jax.random.key(0), jnp.ones((4, 2)))
    folder = tmp_path_factory.mktemp("cell")
    dm.save(folder / "model.safetensors", family.model(state), family, details={"target": "spiral"})
    return folder, family, state


def test_a_model_comes_back_bit_for_bit_from_file_and_from_folder(saved):
    folder, family, state = saved
    original = family.model(state)
    for path in (folder, folder / "model.safetensors", str(folder)):
        back = dm.load(path)
        assert jax.tree.structure(back) == jax.tree.structure(original)
        assert all(map(np.array_equal, jax.tree.leaves(back), jax.tree.leaves(original)))


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    folder, family, state = saved
    dm.save(tmp_path / "m.safetensors", family.model(state), family, details={"target": "spiral"})
    assert (tmp_path / "m.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "text", "pickle", "missing"])
def test_a_damaged_or_foreign_file_is_a_sentence(saved, tmp_path, damage):
    good = (saved[0] / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    content = {
        "flip": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "truncate": good[: len(good) // 2],
        "empty": b"",
        "text": b"step,loss\n1,2\n",
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}.",
    }
    if damage != "missing":
        path.write_bytes(content[damage])
    with pytest.raises(dm.UsageError, match=r"damaged|there is no model"):
        dm.load(path)


def test_a_foreign_safetensors_file_is_named(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(dm.UsageError, match="was not written by"):
        dm.load(tmp_path / "other.safetensors")


def test_a_header_that_does_not_fit_its_arrays_is_refused(saved, tmp_path):
    _, family, state = saved
    wider = dm.families.get("vae", width=16, depth=1)
    dm.save(tmp_path / "m.safetensors", family.model(state), wider)
    with pytest.raises(dm.UsageError, match="does not fit its own hyper-parameters"):
        dm.load(tmp_path / "m.safetensors")


def test_a_fit_that_is_not_finished_is_not_a_model(saved, tmp_path):
    _, _, state = saved
    about = {"seeds": [3], "data": "abc"}
    content = checkpoint.encode_run(state, about | {"rows": 2})
    (tmp_path / "s.safetensors").write_bytes(content)
    with pytest.raises(dm.UsageError, match="holds a run, not a model"):
        dm.load(tmp_path / "s.safetensors")
    back = checkpoint.decode_run(content, about, lambda header: {2: state}[header["rows"]])
    assert all(map(np.array_equal, jax.tree.leaves(back), jax.tree.leaves(state)))
    with pytest.raises(dm.UsageError, match="another fit"):
        checkpoint.decode_run(content, {"seeds": [4]}, lambda header: state)
    with pytest.raises(dm.UsageError, match="does not say what is in it"):
        checkpoint.decode_run(content, about, lambda header: header["columns"])


def test_a_hostile_header_is_a_sentence_and_takes_no_memory(tmp_path):
    """Sizes that are not there, sizes that overflow, nesting that no parser follows."""
    headers = [
        b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
        b'{"w":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
        b'{"__metadata__":{"densitometer":"' + b"[" * 100_000 + b'"}}',
        b'{"__metadata__":{"densitometer":"7"}}',
        b'{"__metadata__":{"densitometer":7}}',
        b'{"__metadata__":7}',
        b"[" * 100_000,
        b"7",
    ]
    for header in headers:
        for length in (len(header), 2**63):
            path = tmp_path / "model.safetensors"
            path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
            with pytest.raises(dm.UsageError, match="damaged or no model file"):
                dm.load(path)


def test_the_header_says_what_the_file_is(saved):
    from safetensors import safe_open

    with safe_open(saved[0] / "model.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["densitometer"])["header"]
    assert header["family"] == "vae"
    assert header["hyperparameters"]["width"] == 8
    assert header["target"] == "spiral"
