"""The sentences say what planted numbers say."""

import dataclasses
import json
import math
import re
import shutil

import fabricated
import numpy as np
import pytest

from densitometer.findings import overall, ranking, sentences
from densitometer.findings.comparisons import critical_of_seeds
from densitometer.findings.results import Results
from densitometer.metrics import METRICS
from densitometer.report import tables, writeup

CURVE = np.linspace(0, 1, 40)


def text_of(results, target="spiral", topic=None):
    return joined(sentences.of_target(results, target), topic)


def of_family(results, family, topic=None):
    return joined(sentences.of_family(results, family), topic)


def joined(found, topic):
    return " ".join(
        f.text.replace("\N{NO-BREAK SPACE}", " ")
        for name, group in found.items()
        if topic in (None, name)
        for f in group
    )


def warnings(results):
    return [(f.kind, f.text.replace("\N{NO-BREAK SPACE}", " ")) for f in overall.caveats(results)]


def plant_curves(study, holdout, train=None, *, selected=None, family="vae"):
    folder = study / "cells" / "spiral" / family / "0"
    holdout = np.asarray(holdout, dtype=float)
    train = 2 - CURVE if train is None else train
    step = 100 * np.arange(1, len(holdout) + 1)
    rows = zip(step, train, holdout, 3 - CURVE, strict=True)
    lines = ["step,train_loss,holdout_loss,holdout_kde_nll"]
    lines += [",".join(repr(float(v)) for v in row) for row in rows]
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    fit = json.loads((folder / "fit.json").read_text())
    fit["selected_step"] = int(step[np.argmin(holdout)]) if selected is None else selected
    (folder / "fit.json").write_text(json.dumps(fit))
    return Results.read(study)


def test_a_clear_winner_beats_every_baseline(plant):
    results = plant("spiral", "dsm", kl=(0.02, 0.003))
    text = text_of(results, topic="Density")
    assert "Of these fits, the closest density is that of DSM, KL 0.020 ± 0.003 nats" in text
    assert "it beats the cross-validated KDE (0.089 ± 0.006), the adaptive KDE (0.087 ± " in text
    assert "and the mean of ten Gaussian mixtures (0.078 ± 0.006)" in text
    assert "Behind: VAE (0.213 ± 0.008), worse than every baseline" in text


def test_a_tie_is_called_a_tie(plant):
    results = plant("spiral", "vae", kl=(0.085, 0.006))
    text = text_of(results, topic="Density")
    assert "DSM (0.081 ± 0.006 nats) and VAE (0.085 ± 0.006 nats) tie for the closest" in text
    assert "DSM ties with the cross-validated KDE" in text
    row = {r.name: r for r in tables.headline(results).blocks[0].rows}
    assert row["dsm"].entries[0].strong
    assert row["vae"].entries[0].strong


def test_losing_to_a_baseline_is_said(plant):
    results = plant("spiral", "dsm", kl=(0.15, 0.004))
    assert "it loses to the cross-validated KDE" in text_of(results, topic="Density")
    overview = " ".join(f.text for f in overall.overview(results))
    assert "The best family’s density loses to every baseline on the spiral" in overview
    assert "In these fits, its density loses to every baseline on the spiral" in of_family(
        results, "dsm", "Weaknesses"
    )


def test_between_the_baselines(plant):
    results = plant("spiral", "vae", kl=(0.105, 0.001))
    plant("spiral", "kde", kl=(0.2, 0.001))
    results = plant("spiral", "kde_adaptive", kl=(0.2, 0.001))
    text = text_of(results, topic="Density")
    better = "the Gaussian mixture chosen by hold-out and the mean of ten Gaussian mixtures"
    assert f"Behind: VAE (0.1050 ± 0.0010), worse than {better}." in text


@pytest.mark.parametrize(
    ("family", "metric", "value", "words"),
    [
        ("dsm", "kl", (-0.05, 0.004), "-0.0500 ± 0.0040, negative beyond its error"),
        ("dsm", "mass", (1.0132, 1e-4), "the density integrates to 1.0132, not to 1"),
        (
            "vae",
            "nll_elbo",
            (0.2, 0.01),
            "0.2000 ± 0.0100: a bound, and below the exact",
        ),
        ("gan", "bhattacharyya", (1.2, 0.001), "outside 0 to 1"),
        ("gan", "off_support", (None, None), "Share of samples off the support is not finite"),
    ],
)
def test_impossible_numbers_are_alarms_and_win_nothing(plant, family, metric, value, words):
    results = plant("spiral", family, **{metric: value})
    ((kind, text),) = warnings(results)
    assert kind == "alarm"
    assert words in text
    assert f"{family.upper()} on the spiral" in text
    assert family not in ranking.best(results, "spiral", metric)
    title = METRICS.label(metric)
    block = next(b for b in tables.complete(results).blocks if b.title.startswith(f"{title}:"))
    row = next(r for r in block.rows if r.name == family)
    assert row.entries[0].alarm
    assert not row.entries[1].alarm
    if metric == "kl":
        assert "DSM" not in text_of(results, topic="Density").split("VAE")[0]


def test_noise_is_no_alarm(plant):
    assert warnings(plant("spiral", "dsm", kl=(-0.005, 0.004), mass=(1.0005, 0.0))) == []


def test_leaks_are_measured_against_the_truth(plant):
    results = plant("spiral", "gan", off_support=(0.05, 0.005))
    results = plant("spiral", "dsm", off_support=(0.003, 0.001))
    results = plant("spiral", "vae", off_support=(0.001, 0.001))
    text = text_of(results, topic="Support")
    assert (
        text == "In these fits, 5.0 ± 0.5 % of GAN’s samples lie off the support, "
        "against 0.10 ± 0.07 % of the truth’s."
    )
    results = plant("spiral", "gan", off_support=(0.001, 0.001))
    assert (
        "None of these fits is shown to put more than 0.5 % of its samples off the support above "
        "the truth’s own share." in text_of(results, topic="Support")
    )


def test_samples_as_good_as_the_truth_are_said_so(plant):
    assert "where a fresh true sample" in text_of(plant("spiral", "truth"), topic="Samples")
    results = plant("spiral", "gan", bhattacharyya=(0.9915, 0.0008))
    assert "those of GAN are closest" in text_of(results, topic="Samples")
    assert "not distinguishable from that of a fresh true sample" in text_of(
        results, topic="Samples"
    )
    # within its own wide error of the truth, and yet beyond what true samples score
    text = text_of(plant("spiral", "gan", bhattacharyya=(0.9895, 0.01)), topic="Samples")
    assert "where a fresh true sample" in text


def test_samples_that_are_not_of_their_density(plant):
    assert "differ beyond noise" not in of_family(plant("spiral", "dsm"), "dsm")
    results = plant("spiral", "dsm", self_bhattacharyya=(-0.02, 0.001))
    assert "On the spiral its samples and its density differ beyond noise" in of_family(
        results, "dsm"
    )


def test_a_loose_bound_is_measured(plant):
    results = plant("spiral", "vae", nll=(0.4, 0.01), nll_elbo=(0.7, 0.01))
    assert "Its negative ELBO is loose by 0.300 ± 0.014 nats on the spiral" in of_family(
        results, "vae"
    )


def on_spiral(results, family="vae"):
    """What is said of training, of the spiral alone: the fabricated curves of others rise too."""
    results = dataclasses.replace(
        results, plan=dataclasses.replace(results.plan, targets=("spiral",))
    )
    return of_family(results, family, "Training")


def test_overfitting_is_a_rise_of_the_hold_out_alone(study):
    valley = 1 + (CURVE - CURVE[19]) ** 2
    valley += 0.001 * np.random.default_rng(0).normal(size=40)
    text = on_spiral(plant_curves(study, valley))
    assert re.fullmatch(
        r"Overfits on the spiral \(from step \d,\d00 on its hold-out loss rises by "
        r"0\.26\d+ ± 0\.001\d? while its training loss falls\)\.",
        text,
    )
    text = on_spiral(plant_curves(study, valley, train=valley))
    assert "Gets worse on the spiral (from step" in text
    assert "training loss" not in text


def test_noise_and_a_flat_end_are_no_overfitting(study):
    rng = np.random.default_rng(0)
    decay = np.exp(-6 * CURVE)
    for noise in (0.0, 0.02, 0.1):
        results = plant_curves(study, decay + noise * rng.normal(size=40))
        assert on_spiral(results) == "", noise


def test_an_unfinished_descent_is_said(study):
    text = on_spiral(plant_curves(study, 2 - CURVE))
    assert (
        text
        == "Has not converged on the spiral (hold-out loss still falling at step 4,000, its last)."
    )


def test_an_adversary_is_judged_by_its_samples(study):
    # The own loss rises, but another curve chose the state: that one falls.
    results = plant_curves(study, 1 + CURVE, selected=4000, family="gan")
    assert results.cell("spiral", "gan").selecting_curve == "holdout_kde_nll"
    text = on_spiral(results, "gan")
    assert "Overfits" not in text
    assert "hold-out score of samples still falling" in text


def test_one_family_is_chosen_for_both_uses_if_it_is_among_the_best_by_both(plant):
    plant("spiral", "dsm", kl=(0.050, 0.001), bhattacharyya=(0.960, 0.0005))
    results = plant("spiral", "vae", kl=(0.0505, 0.001), bhattacharyya=(0.990, 0.0005))
    assert ranking.choice(results, "spiral") == (
        "vae",
        "vae",
    )  # dsm’s KL ties, its samples do not
    assert (
        "Choose VAE: none of these fits is shown to be closer to the truth, by density or by "
        "samples." in text_of(results, topic="Choice")
    )
    assert "cannot be distinguished from it" not in text_of(results, topic="Choice")


def test_two_families_are_chosen_if_none_is_best_at_both(plant):
    plant("spiral", "dsm", kl=(0.050, 0.001), bhattacharyya=(0.960, 0.0005))
    plant("spiral", "vae", kl=(0.200, 0.001), bhattacharyya=(0.950, 0.0005))
    results = plant("spiral", "gan", bhattacharyya=(0.990, 0.0005))
    assert ranking.choice(results, "spiral") == ("dsm", "gan")
    text = text_of(results, topic="Choice")
    assert "Choose DSM for a density and GAN for samples alone" in text
    abstract = " ".join(f.text for f in overall.abstract(results))
    assert "DSM for a density and GAN for samples alone on the spiral (0.0500" in abstract
    row = tables.choices(results).blocks[0].rows[0]
    assert [e.text.split(",")[0] for e in row.entries] == ["DSM", "–", "GAN", "VAE"]


def test_an_equal_and_quicker_family_is_named(plant, study):
    for family, seconds in (("dsm", 40.0), ("vae", 8.0)):
        plant("spiral", family, kl=(0.05, 0.002), bhattacharyya=(0.985, 0.002))
        timing = study / "cells" / "spiral" / family / "0" / "timing.json"
        timing.write_text(json.dumps({"fit": seconds + 100, "fit_compile": 100}))
    results = Results.read(study)
    text = text_of(results, topic="Choice")
    assert "By either measure VAE cannot be distinguished from it." in text
    assert "A fit took 40 s for DSM and 8 s for VAE, the quickest of these." in text
    times = next(line["text"] for line in writeup.setup(results) if "compilation" in line["text"])
    assert "and 200 s of compilation apart" in times


def test_strengths_are_told_by_place(plant):
    text = of_family(plant("spiral", "gan", off_support=(0.0, 0.0005)), "gan", "Strengths")
    assert "by support on the spiral" in text
    text = of_family(plant("spiral", "dsm", kl=(0.02, 0.003)), "dsm", "Strengths")
    assert "by density" in text
    assert "beats every baseline on the spiral" in text
    assert "beats" not in of_family(plant("spiral", "dsm"), "vae", "Strengths")


def test_divergence_is_a_result(study):
    path = study / "cells" / "spiral" / "gan" / "0" / "fit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"diverged_at": 1200}))
    results = Results.read(study)
    assert warnings(results) == [
        (
            "caveat",
            "GAN on the spiral diverged at step 1,200; the numbers are those of the best state "
            "before that.",
        )
    ]
    row = next(r for r in tables.headline(results).blocks[1].rows if r.name == "gan")
    assert row.entries[0].mark == "†"
    assert row.entries[1].mark == ""


def test_missing_cells_are_named(study):
    shutil.rmtree(study / "cells" / "pinwheel" / "vae")
    failed = study / "cells" / "spiral" / "dsm" / "0"
    shutil.rmtree(failed)
    failed.mkdir()
    (failed / "error.txt").write_text("out of memory")
    results = Results.read(study)
    ((kind, text),) = warnings(results)
    assert kind == "caveat"
    assert (
        "of 32 cells 2 are missing, DSM on the spiral (failed) and VAE on the pinwheel (not run)"
        in text
    )
    assert "that of VAE, KL 0.213" in text_of(results)
    rows = {r.name: r.entries for r in tables.headline(results).blocks[0].rows}
    assert rows["dsm"][0].text == "failed"
    assert rows["vae"][1].text == "not run"
    assert rows["gan"][0].text == "no density"


def test_a_ranking_groups_what_cannot_be_distinguished(tmp_path):
    """Five seeds that move all families together: vae is surely behind dsm, kde is not."""
    folder = fabricated.fabricate(tmp_path / "study", seeds=range(5), names=("spiral",))
    shift = (0.0, 0.03, -0.02, 0.05, 0.01)
    wobble = (0.004, -0.006, 0.005, -0.004, 0.002)
    for seed in range(5):
        kl = {"dsm": 0.10, "kde": 0.10 + wobble[seed], "vae": 0.12 + wobble[seed] / 2}
        kl |= dict.fromkeys(("kde_adaptive", "gmm", "gmm_mean"), -1.0)
        for family, value in kl.items():
            fabricated.rewrite(folder, "spiral", family, seed, kl=(value + shift[seed], 0.001))
    results = Results.read(folder)
    groups = ranking.ranking(results, "spiral", "kl")
    assert [[f for f, _ in group] for group in groups] == [["dsm", "kde"], ["vae"]]
    behind = groups[1][0][1]
    assert behind.value == pytest.approx(0.12 + np.mean(wobble) / 2 - 0.10)
    assert 0 < behind.low < behind.value < behind.high
    (block,) = tables.ranking(results, "kl").blocks
    assert [str(row.entries[0]) for row in block.rows] == ["1", "1", "2"]
    # half the spread of the wobble, simultaneously for all pairs of four models
    half = critical_of_seeds(4, 5) * np.std(wobble, ddof=1) / 2 / math.sqrt(5)
    assert behind.high - behind.value == pytest.approx(half)
    assert str(block.rows[2].entries[2]) == "0.020 [0.015, 0.025]"
