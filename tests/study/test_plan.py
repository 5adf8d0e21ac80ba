import json

import pytest

from densitometer.errors import UsageError
from densitometer.study.plan import PROTOCOLS, REFERENCES, Plan, family_of
from densitometer.targets import STUDIED, TARGETS

PLAN = """
budget = "smoke"
targets = ["spiral", "pinwheel"]
seeds = 3

[families.dsm]

[families.ddpm]
width = [64, 128]
depth = [2, 3]

[families."ddpm.slow"]
learning_rate = 1e-4

[protocol]
n_train = 500
"""


def written(folder, text, name="plan.toml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_plan_that_names_none_has_the_targets_of_the_study():
    assert Plan.make().targets == STUDIED
    assert set(STUDIED) < set(TARGETS)
    assert Plan.make(targets=TARGETS).targets == tuple(TARGETS)


def test_a_person_s_plan_is_what_the_options_ask_for(tmp_path):
    plan = Plan.from_file(written(tmp_path, PLAN))
    swept = {"width": [64, 128], "depth": [2, 3]}
    families = {"dsm": {}, "ddpm": swept, "ddpm.slow": {"learning_rate": 1e-4}}
    same = Plan.make(families, ["spiral", "pinwheel"], range(3), "smoke", protocol={"n_train": 500})
    assert plan == same
    assert list(plan.families) == [
        "dsm",
        "ddpm.width=64.depth=2",
        "ddpm.width=64.depth=3",
        "ddpm.width=128.depth=2",
        "ddpm.width=128.depth=3",
        "ddpm.slow",
    ]
    assert {family_of(name) for name in plan.families} == {"dsm", "ddpm"}
    assert plan.families["ddpm.width=64.depth=3"]["width"] == 64
    assert plan.families["ddpm.slow"]["learning_rate"] == 1e-4
    assert plan.families["ddpm.slow"]["width"] == plan.families["dsm"]["width"]
    assert plan.protocol.n_train == 500
    assert plan.protocol.n_test == PROTOCOLS["smoke"].n_test
    assert len(plan.cells()) == 2 * 3 * (len(REFERENCES) + 6)


def test_the_plan_of_a_study_is_a_plan_again(tmp_path):
    plan = Plan.from_file(written(tmp_path, PLAN))
    assert Plan.from_file(written(tmp_path, plan.to_json(), "plan.json")) == plan
    other = json.loads(plan.to_json()) | {"versions": {"densitometer": "0.0.1"}}
    assert Plan.from_file(written(tmp_path, json.dumps(other), "plan.json")) == plan


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seeds = ", "is no plan"),
        ("x = " + "[" * 10_000, "is no plan"),
        ("colour = 3", "there is no 'colour' in a plan"),
        ("seeds = 1.5", "seeds must be how many, or which"),
        ("seeds = 0", "seeds are counted from 1 to 10000, not 0"),
        ("seeds = 10001", "seeds are counted from 1 to 10000, not 10001"),
        ("seeds = []", "no seeds; give at least one"),
        ("seeds = [0, -1]", "a seed must be a whole number from 0 to 4294967295, not -1"),
        ("seeds = [true]", "seeds must be how many"),
        ("targets = ['spirale']", "did you mean 'spiral'"),
        ("targets = [3]", "targets must be names"),
        ("families = ['ddmp']", "did you mean 'ddpm'"),
        ("families = 3", "families must be names, or a table"),
        ("[families]\nddpm = 3", "families must be names, or a table"),
        ("[families.ddpm]\nwidht = 3", "did you mean 'width'"),
        ("[families.ddpm]\nwidth = 'wide'", "ddpm: width must be a whole number"),
        ("[families.ddpm]\nwidth = true", "width must be a whole number from 1 to 65536, not True"),
        ("[families.ddpm]\nwidth = [64, 1.5]", "width must be a whole number .*, not 1.5"),
        ("[families.ddpm]\nwidth = 10000000", "width must be .* from 1 to 65536, not 10000000"),
        ("[families.dsm]\nsigma = 'x'", "sigma must be a number from 1e-05 to 10000 or None"),
        (
            "[families.ddpm]\nlearning_rate = nan",
            "rate must be .* at most 1000000, not nan",
        ),
        (
            "[families.dsm]\nsigma_min = 10",
            "dsm: sigma_min must be below sigma_max = 5.0",
        ),
        (
            "[families.dsm]\nsigma_min = [1.0, 7.5]",
            "must be below sigma_max = 5.0, not 7.5",
        ),
        ("[families.dsm]\nsampler = 'o'", "sampler must be .ode. or .langevin., not .o."),
        ("[families.'ddpm/../..']\nwidth = 3", "no family 'ddpm/'"),
        ("[families.'ddpm./../x']\nwidth = 3", "variant's name"),
        ("[protocol]\nn_train = 'all'", "protocol must be whole numbers"),
        ("[protocol]\nn_train = 3", "n_train must be a whole number from 10 to 10000000, not 3"),
        ("[protocol]\nn_tarin = 30", "there is no number of points 'n_tarin'"),
        ("budget = 'huge'", "no budget 'huge'"),
        ("device = 'abacus'", "no device 'abacus'"),
    ],
)
def test_a_plan_that_asks_for_what_there_is_not_is_a_sentence(tmp_path, text, sentence):
    with pytest.raises(UsageError, match=sentence):
        Plan.from_file(written(tmp_path, text))


def test_a_plan_that_is_no_text_is_a_sentence(tmp_path):
    path = tmp_path / "plan.json"
    for content in (b"", b"\xff\xfe", b"7", b"[" * 100_000, b"null"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="is no plan"):
            Plan.from_file(path)
