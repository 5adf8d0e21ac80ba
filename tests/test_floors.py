"""What the truth scores, and what planted faults score beside it."""

import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import densitometer as dm
from densitometer import metrics
from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.metrics import METRICS
from densitometer.metrics.explanation import named
from densitometer.scoring import evidence, floors
from densitometer.scoring.evidence import Evidence
from densitometer.scoring.floors import Floor, Floors
from densitometer.scoring.scorecard import score_samples
from densitometer.scoring.verdict import verdict
from densitometer.targets import STUDIED, TARGETS
from planted import KINDS, planted

N = 2000
ENTROPY = Estimate(1.5, 0.0, Provenance.parse("quadrature"))


def normal_floors(repeats=2000, metrics=("a", "b", "c"), seed=0):
    rng = np.random.default_rng(seed)
    cards = [dict(zip(metrics, row, strict=True)) for row in rng.normal(size=(repeats, 3)).tolist()]
    return floors.from_repeats(cards, 100, 200)


def card(**values):
    return {
        name: Estimate(value, 1.0, Provenance.parse("samples(n=100)"))
        for name, value in values.items()
    }


# --- the statistics


def test_a_floor_is_the_central_95_percent():
    found = normal_floors().metrics["a"]
    # the standard error of a quantile is √(p (1 − p)/n) over the density there
    error = np.sqrt(0.025 * 0.975 / 2000) / 0.0584
    assert found.low == pytest.approx(-1.96, abs=4 * error)
    assert found.high == pytest.approx(1.96, abs=4 * error)
    assert found.holds(0.0)
    assert not found.holds(2.5)
    assert not found.holds(float("nan"))


@pytest.mark.parametrize("repeats", [39, 79])
def test_a_further_value_lies_within_with_just_that_probability(repeats):
    """Whatever the number of repeats: of 40 exchangeable values the extremes are 1 in 20."""
    inside = []
    for seed in range(400):
        draws = np.random.default_rng(seed).exponential(size=repeats + 1)
        found = floors.from_repeats([{"a": v} for v in draws[:-1].tolist()], 1, 1)
        inside.append(found.metrics["a"].holds(float(draws[-1])))
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 400))


def test_the_verdict_allows_for_the_number_of_metrics():
    found = normal_floors()
    rng = np.random.default_rng(1)
    truths = [
        verdict(found, card(**dict(zip("abc", row, strict=True))))
        for row in rng.normal(size=(1000, 3)).tolist()
    ]
    share = np.mean([v.passes for v in truths])
    assert share == pytest.approx(0.97, abs=4 * np.sqrt(0.03 * 0.97 * 1.5 / 1000))
    assert all((v.excess <= 1) == v.passes for v in truths)
    bad = verdict(found, card(a=0.1, b=9.0, c=0.0))
    assert bad.cause == "b"
    assert "b is 9, above what the truth scores" in bad.sentence


def test_what_chance_does_is_measured_on_repeats_that_the_floors_have_not_seen():
    """The extremes of twenty repeats lie on the floors of all, and beyond those of the others."""
    cards = [{"a": v} for v in np.random.default_rng(0).normal(size=20).tolist()]
    found = floors.from_repeats(cards, 1, 1)
    assert max(found.metrics["a"].excess(card["a"]) for card in cards) <= 1
    assert found.joint > 1.05


@pytest.mark.parametrize("repeats", [4, 40])
def test_rare_counts_leave_a_finite_threshold(repeats):
    cards = [{"a": 0.0, "b": float(i)} for i in range(repeats)]
    cards[-1]["a"] = 1.0
    found = floors.from_repeats(cards, 1, 1)
    assert np.isfinite(found.joint)
    assert verdict(found, card(a=0.0, b=repeats / 2)).passes


def test_a_metric_that_never_varies_is_exceeded_by_anything_else():
    constant = Floor(0.0, 0.0, 0.0)
    assert constant.excess(0.0) == 0
    assert constant.excess(1e-9) == float("inf")
    assert Floor(0.0, 1.0, 3.0).excess(2.0) == 0.5
    assert Floor(0.0, 1.0, 3.0).excess(-1.0) == 2.0
    assert Floor(0.0, 1.0, 3.0).excess(float("nan")) == float("inf")


def test_of_densities_the_floor_is_the_truths_own_value():
    found = normal_floors()
    kl = found.floor("kl", Estimate(0.05, 0.01, EXACT), ENTROPY)
    assert kl == (-0.0196, 0.0, 0.0196, True)
    nll = found.floor("nll", Estimate(1.6, 0.1, EXACT), ENTROPY)
    mass = found.floor("mass", Estimate(1.01, 0.1, EXACT), ENTROPY)
    assert nll is not None
    assert mass is not None
    assert nll.median == 1.5
    assert mass.holds(1.01) is False
    for metric in ("total_variation", "duplicates"):  # no number of these is below 0
        share = found.floor(metric, Estimate(0.01, 0.01, EXACT), ENTROPY)
        assert share == (0.0, 0.0, 0.0196, True)
    assert found.floor("nfe", Estimate(99, 1, EXACT), ENTROPY) is None


def test_json_keeps_everything():
    found = normal_floors()
    assert Floors.from_json(found.to_json()) == found


# --- what comes with the package, and what is kept


def test_every_target_has_floors_for_every_budget():
    from densitometer.study.plan import PROTOCOLS

    for name in TARGETS:
        for rules in PROTOCOLS.values():
            found = floors.known_floors(dm.targets.get(name), rules.n_samples, rules.n_test)
            assert found is not None, f"{name}: run `make floors`"
            assert found.repeats >= (400 if name in STUDIED else 100)


def test_other_sizes_and_laws_are_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(floors, "REPEATS", 3)
    law = dataclasses.replace(dm.targets.get("gaussian_mixture"), noise=0.2)
    calls = []

    def perfect(*args):
        calls.append(args)
        return {"a": float(args[-1] - floors.FIRST_SEED), "b": 1.0}

    monkeypatch.setattr(floors, "perfect", perfect)
    assert floors.known_floors(law, 100, 50) is None
    told = []
    first = floors.of(law, 100, 50, progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert floors.of(law, 100, 50) == first
    assert len(calls) == 3
    assert floors.known_floors(dm.targets.get("gaussian_mixture"), 100, 50) is None
    monkeypatch.setattr(floors, "_MEASURED", {})  # as in the next process
    assert floors.of(law, 100, 50) == first
    assert len(calls) == 3
    (kept,) = (tmp_path / "densitometer" / "floors").iterdir()
    for damaged in ("", "{}", '{"n": 1}', "[]"):
        kept.write_text(damaged)
        assert floors.known_floors(law, 100, 50) is None


def test_what_cannot_be_kept_is_used_all_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(floors, "REPEATS", 2)
    calls = []
    monkeypatch.setattr(floors, "perfect", lambda *args: calls.append(args) or {"a": 1.0})
    law = dataclasses.replace(dm.targets.get("gaussian_mixture"), noise=0.21)
    first = floors.of(law, 100, 50)
    assert floors.of(law, 100, 50) == first
    assert floors.known_floors(law, 100, 50) == first
    assert len(calls) == 2
    assert "is not kept for the next time" in capsys.readouterr().err


def test_floors_are_cached_by_all_that_they_depend_on(monkeypatch):
    target = dm.targets.get("gaussian_mixture")
    names = {
        floors._cache_name(target, 100, 50),
        floors._cache_name(dataclasses.replace(target, noise=0.23), 100, 50),
        floors._cache_name(target, 101, 50),
        floors._cache_name(target, 100, 51),
    }
    of_samples, of_models = (
        "densitometer.metrics.support:OffSupport",
        "densitometer.metrics.scores:ScoreError",
    )
    monkeypatch.setattr(METRICS, "_members", METRICS._members | {"more": of_models})
    names.add(floors._cache_name(target, 100, 50))
    assert len(names) == 4  # a metric of models has no floor that is measured
    monkeypatch.setattr(METRICS, "_members", METRICS._members | {"most": of_samples})
    names.add(floors._cache_name(target, 100, 50))
    monkeypatch.setattr(floors, "VERSION", -1)
    names.add(floors._cache_name(target, 100, 50))
    assert len(names) == 6


def test_a_metric_that_needs_a_model_sends_nobody_measuring(monkeypatch):
    """Nor does one whose value for the truth is known: neither is among the floors."""
    target = dm.targets.get("gaussian_mixture")
    shipped = floors._shipped()
    few = shipped | {"metrics": floors.measured()}
    assert not {"score_error", "nfe", "duplicates"} & {*few["metrics"]}
    monkeypatch.setattr(floors, "_shipped", lambda: few)
    monkeypatch.setattr(floors, "perfect", lambda *_: pytest.fail("floors are measured"))
    known = floors.of(target, 2000)
    assert set(known.metrics) <= set(few["metrics"])
    assert known == floors.known_floors(target, 2000)
    monkeypatch.setattr(floors, "_shipped", lambda: few | {"metrics": few["metrics"][1:]})
    assert not floors._has_every_metric()


def test_without_semaphores_one_process_measures(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no /dev/shm")

    monkeypatch.setattr(floors, "ProcessPoolExecutor", refuse)
    monkeypatch.setattr(floors, "perfect", lambda *args: {"a": float(args[-1])})
    cards = floors.true_scores(dm.targets.get("spiral"), 10, 10, range(3), workers=2)
    assert cards == [{"a": 0.0}, {"a": 1.0}, {"a": 2.0}]


# --- floors of any number of samples


def simulated(n, repeats=4000, seed=0):
    """Floors of values that depend on n as those of true samples do."""
    rng = np.random.default_rng(seed + n)
    mean = rng.normal(size=(repeats, 3)) / np.sqrt(n)
    return floors.from_repeats(
        [
            {
                "shift": float(np.hypot(one[0], one[1])),
                "temperature": 1 + float(one[2]),
                "bhattacharyya": 1 - float(one[0] ** 2 + one[1] ** 2),
                "off_support": float(rng.binomial(n, 0.001)) / n,
                "w2": float(rng.normal()),
            }
            for one in mean
        ],
        n,
        100,
    )


def test_floors_of_more_samples_follow_from_those_of_fewer():
    few, many = simulated(2000), simulated(18_000)
    scaled = few.of_more(18_000)
    assert scaled.n == 18_000
    for metric, floor in many.metrics.items():
        width = floor.high - floor.low
        # a quantile of 4000 normal values has an error of 0.04 of their sd, 1 % of the width
        slack = 0.2 if metric == "off_support" else 0.06  # of which one count is a tenth
        assert scaled.metrics[metric].low == pytest.approx(floor.low, abs=slack * width), metric
        assert scaled.metrics[metric].high == pytest.approx(floor.high, abs=slack * width), metric
    never = dataclasses.replace(few, metrics={"off_support": Floor(0.0, 0.0, 0.0)})
    assert never.of_more(18_000).metrics["off_support"] == Floor(0.0, 0.0, 0.0)


def test_nothing_is_measured_of_more_samples_than_metrics_compare(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(floors, "REPEATS", 2)
    sizes = []
    monkeypatch.setattr(
        floors, "perfect", lambda _, n, *rest: sizes.append(n) or {"shift": rest[-1] / 1e10}
    )
    law = dataclasses.replace(dm.targets.get("gaussian_mixture"), noise=0.22)
    assert floors.seconds_to_measure(law, 1_000_000) < 60
    found = floors.of(law, 1_000_000)
    assert found.n == 1_000_000
    few = floors.known_floors(law, evidence.N_COMPARED)
    assert few is not None
    assert found == few.of_more(1_000_000)
    assert floors.of(law, 2_000_000).n == 2_000_000  # known from the first time
    assert max(sizes) == evidence.N_COMPARED


# --- an ideal learner

DEAR = {"c2st", "w2", "sliced_w2", "kde_log_likelihood", "kde_cv_log_likelihood", "mmd2"}


def judged_quickly(evidence):
    """Without the metrics that take most of the time; what chance allows is then too much."""
    found = (m for m in metrics.every() if m.name not in DEAR and m.absence(evidence) is None)
    return {m.name: m(evidence) for m in found}


def test_an_ideal_learners_floors_are_those_of_so_many_fewer_true_samples():
    """Of as many training points: half as many, to the power that a metric has."""
    truth = floors.of(dm.targets.get("gaussian_mixture"), N)
    learner, half = truth.of_learner(N), truth.of_more(N // 2)
    for metric in ("bhattacharyya", "blur", "leak"):
        a, b, own = learner.metrics[metric], half.metrics[metric], truth.metrics[metric]
        assert a.low == pytest.approx(min(b.low, own.low))
        assert a.high == pytest.approx(max(b.high, own.high))
        assert a.median == own.median
    own = truth.metrics["bhattacharyya"]
    assert learner.metrics["bhattacharyya"].low == pytest.approx(1 - 2 * (1 - own.low))
    assert learner.metrics["bhattacharyya"].high == own.high  # as good as the truth is no fault
    recall, precision = (f.metrics["recall"] for f in (learner, truth))
    assert recall.high - recall.median == pytest.approx(
        math.sqrt(2) * (precision.high - precision.median)
    )
    assert truth.of_learner(10**9).metrics["blur"] == pytest.approx(truth.metrics["blur"])


def test_who_knows_the_form_and_fits_it_is_not_blamed():
    """Maximum likelihood of the seven Gaussians, begun at the true ones; six training sets."""
    target = dm.targets.get("gaussian_mixture")
    floors_, blamed, told = floors.of(target, N), 0, 0
    assert target.modes is not None
    for seed in range(6):
        train = np.asarray(target.sample(jax.random.key(100 + seed), N), np.float64)
        nearest = ((train[:, None] - target.modes[0]) ** 2).sum(axis=2).argmin(axis=1)
        parts = [train[nearest == k] for k in range(7)]
        rng = np.random.default_rng(seed)
        shares = rng.multinomial(N, [len(part) / N for part in parts])
        samples = [
            rng.multivariate_normal(part.mean(axis=0), np.cov(part.T), share)
            for part, share in zip(parts, shares, strict=True)
        ]
        x = rng.permutation(np.concatenate(samples)).astype(np.float32)
        evidence = Evidence(target, seed, x, train=train.astype(np.float32))
        found = verdict(floors_, judged_quickly(evidence))
        blamed += not found.passes
        told += found.sentence.startswith("indistinguishable")
    assert blamed <= 1  # 5 % each
    assert told < 6


# --- planted faults


CASES = [
    (name, kind, 1)
    for name, kinds in {
        "spiral": ("truth", "shift", "blur", "leak", "hot", "cold", "stretched", "mirrored"),
        "pinwheel": ("truth", "blur", "turned", "shift and blur"),
        "checkerboard": ("truth", "shift", "leak", "turn and leak", "thinned", "rounded"),
        "gaussian_mixture": ("shift", "leak", "dropped", "grouped"),
    }.items()
    for kind in kinds
]


@pytest.mark.parametrize(("name", "kind", "seed"), CASES)
def test_the_verdict_names_what_is_planted_or_nothing(name, kind, seed):
    target, what = dm.targets.get(name), KINDS[kind]
    estimates = judged_quickly(Evidence(target, seed, planted(target, kind, N, seed)))
    found = verdict(floors.of(target, N), estimates)
    assert found.passes == what.harmless, found.sentence
    assert what.says in found.sentence
    faults = named(estimates["unexplained"].provenance)
    assert [set(one) for one in faults] == ([set(what.named)] if what.named else [])


@pytest.mark.parametrize("fault", ["truth", "blur", "hot"])
def test_a_scorecard_says_which_fault_was_planted(fault):
    """Of narrow Gaussian modes heat is noise: either may be named, and both are."""
    target = dm.targets.get("gaussian_mixture")
    card = score_samples(planted(target, fault, N, 2), target, seed=2)
    found = card.verdicts()["samples"]
    if fault == "truth":
        assert found.passes, found.sentence
    else:
        assert "blurred" in found.sentence
        assert "too hot" in found.sentence
    last = [row for row in card.judged() if row["family"] == "samples"][-1]
    assert last["metric"] == "verdict"
    assert last["note"] == found.sentence
    assert last["within_floor"] == (fault == "truth")
    rows = {
        row["metric"]: row for row in json.loads(json.dumps(card.judged()[: len(card.rows) // 2]))
    }
    for metric in ("order", "rounding"):  # remarks
        assert rows.pop(metric)["floor_low"] is None
    for metric, row in rows.items():
        assert row["floor_low"] <= row["floor_high"], metric
        inside = row["floor_low"] <= row["value"] <= row["floor_high"]
        assert row["within_floor"] == inside
        assert ("indistinguishable" in row["note"]) == inside
    assert f"samples: {found.sentence}." in str(card)


def test_the_floor_of_a_small_count_holds_the_attainable_share_nearest_to_what_it_should():
    """Of a Poisson law of mean 2, 0 to 4 hold 94.7 %, 0 to 5 hold 98.3 %; quantiles say 0 to 5."""
    counts = np.random.default_rng(0).poisson(2, 20_000) / 2000
    floor = floors._floor(counts)
    assert (floor.low, floor.median, floor.high) == (0.0, 2 / 2000, 4 / 2000)
    # The same where the count is of what is not rare: 1 less a small count.
    mirrored = floors._floor(1 - counts)
    assert (mirrored.low, mirrored.high) == (1 - 4 / 2000, 1.0)


def test_the_floor_of_a_continuous_value_is_its_quantiles():
    values = np.random.default_rng(0).standard_normal(1000)
    floor = floors._floor(values)
    assert floor.low == pytest.approx(np.quantile(values, 0.025, method="weibull"))
    assert floor.high == pytest.approx(np.quantile(values, 0.975, method="weibull"))
    always = floors._floor(np.zeros(1000))
    assert (always.low, always.high) == (0.0, 0.0)
    assert always.holds(0.0)
    assert not always.holds(1e-9)


def test_no_process_that_measures_outlives_its_parent(tmp_path):
    program = """if True:
        from densitometer.scoring import floors
        from densitometer import targets
        if __name__ == "__main__":
            target = targets.get("gaussian_mixture")
            told = lambda done, all: print(done, flush=True)
            floors.measure(target, 100, 100, repeats=10_000, workers=2, progress=told)
    """
    file = tmp_path / "program.py"
    file.write_text(program)
    with subprocess.Popen([sys.executable, file], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in listed):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(0.05)
