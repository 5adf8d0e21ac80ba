"""What the numbers say, in sentences, by rules.

A rule looks at the results and yields findings; every number in a sentence is taken from a cell's
files. "Better" and "worse" mean that the 95 % interval of the difference, paired by seed, does not
hold 0; anything less is a tie and is called one.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Literal, TypeVar

from densitometer.metrics.laws import broken
from densitometer.report.digits import count, listed, plus_minus
from densitometer.report.results import CellFiles, Difference, Measure, Results, compare, difference
from densitometer.report.trends import trend
from densitometer.study.plan import REFERENCES

BASELINES = {"kde": "the cross-validated KDE", "gmm": "the Gaussian mixture"}
"""What any family should beat to earn its training, and how sentences call it."""

BOUNDS = {"nll_elbo": "ELBO", "nll_importance": "importance-weighted bound"}
"""Upper bounds on `nll`, and how sentences call them."""

LARGER_IS_BETTER = frozenset({"bhattacharyya", "bhattacharyya_exact"})

LEAK = 0.005
"""Share of samples off the support, above the truth's own, from which a leak is worth a word."""

AT_ONCE = 6
"""Things of one kind that are named one by one before the rest is counted."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence: a `caveat` limits what can be concluded, an `alarm` tells of what cannot be."""

    text: str
    kind: Literal["finding", "caveat", "alarm"] = "finding"


Rule = Callable[[Results, str], Iterator[Finding]]
"""Looks at one target."""


def of_target(results: Results, target: str) -> dict[str, list[Finding]]:
    """Everything the rules find on one target, by topic."""
    found: dict[str, list[Finding]] = {}
    for topic, rule in RULES:
        if sentences := list(rule(results, target)):
            found.setdefault(topic, []).extend(sentences)
    return found


def overview(results: Results) -> list[Finding]:
    """The main findings over all targets, best first."""
    found = [
        *_closest_overall(results),
        *_nearest_samples_overall(results),
        *_leaks_overall(results),
    ]
    return found or [Finding("No family has a number to compare yet.", "caveat")]


def caveats(results: Results) -> list[Finding]:
    """What a reader must know before believing a number: impossible values first."""
    found = [Finding(text, "alarm") for text in impossible(results).values()]
    if len(found) > AT_ONCE:
        more = f"{len(found) - AT_ONCE} more impossible numbers are marked in the tables."
        found = [*found[:AT_ONCE], Finding(more, "alarm")]
    return [*found, *_divergences(results), *_unfinished(results)]


def best(results: Results, target: str, metric: str) -> tuple[str, ...]:
    """The family with the best value of a metric, then those that tie with it.

    A number that cannot be wins nothing.
    """
    flagged = impossible(results)
    ranked = [
        (f, m) for f, m in results.ranked(target, metric) if (target, f, metric) not in flagged
    ]
    if not ranked:
        return ()
    sign = -1 if metric in LARGER_IS_BETTER else 1
    ranked.sort(key=lambda pair: sign * pair[1].value)
    leader = ranked[0][1]
    return tuple(family for family, m in ranked if compare(m, leader) == 0)


def ranking(results: Results, target: str, metric: str) -> list[list[tuple[str, Difference]]]:
    """Families and baselines from best to worst, in groups, each behind the very best by so much.

    The best of a group is told apart from those of the group before it; the others of a group
    cannot be told apart from its best. A number that cannot be is not ranked.
    """
    flagged = impossible(results)
    sign = -1 if metric in LARGER_IS_BETTER else 1
    entered = [(b, results.measure(target, b, metric)) for b in BASELINES]
    entered = [(b, m) for b, m in entered if m] + results.ranked(target, metric)
    entered = [(f, m) for f, m in entered if (target, f, metric) not in flagged]
    entered.sort(key=lambda pair: sign * pair[1].value)
    groups: list[list[tuple[str, Difference]]] = []
    leader: Measure | None = None
    for family, measure in entered:
        if leader is None or compare(measure, leader) != 0:
            groups.append([])
            leader = measure
        groups[-1].append((family, difference(measure, entered[0][1])))
    return groups


@functools.lru_cache(maxsize=4)
def impossible(results: Results) -> dict[tuple[str, str, str], str]:
    """(target, family, metric) of every number that cannot be, and the sentence that says why."""
    found = {}
    for target in results.targets:
        for family in (*REFERENCES, *results.families):
            for files in results.cells(target, family):
                for metric, why in broken(files.scorecard, results.entropy(target)):
                    found[target, family, metric] = f"Impossible: {_where(results, files)}: {why}."
    return found


def closest_density(results: Results, target: str) -> Iterator[Finding]:
    """Who has the smallest KL, and whether that beats the baselines."""
    leaders = best(results, target, "kl")
    if not leaders:
        return
    first = _measure(results, target, leaders[0], "kl")
    if len(leaders) == 1:
        text = f"The closest density is {leaders[0]}’s, KL {_pm(first)} nats"
    else:
        tied = [f"{f} ({_pm(_measure(results, target, f, 'kl'))} nats)" for f in leaders]
        text = f"{listed(tied)} tie for the closest density"
    verdicts = _verdicts(results, target, first, "kl")
    subject = "it" if len(leaders) == 1 else leaders[0]
    yield Finding(f"{text}; {subject} {verdicts}." if verdicts else f"{text}.")
    flagged = impossible(results)
    rest = [
        (f, m)
        for f, m in results.ranked(target, "kl")
        if f not in leaders and (target, f, "kl") not in flagged
    ]
    for family, measure in sorted(rest, key=lambda pair: pair[1].value):
        behind = [
            BASELINES[b]
            for b in BASELINES
            if (m := results.measure(target, b, "kl")) and compare(measure, m) > 0
        ]
        worse = ", no worse than the baselines"
        if behind:
            worse = ", worse than " + ("both baselines" if len(behind) == 2 else behind[0])
        yield Finding(f"{family} follows at {_pm(measure)} nats{worse}.")


def nearest_samples(results: Results, target: str) -> Iterator[Finding]:
    """Whose samples overlap most with the truth, beside what a true sample reaches."""
    leaders = best(results, target, "bhattacharyya")
    truth = results.measure(target, "truth", "bhattacharyya")
    if not leaders or truth is None:
        return
    first = _measure(results, target, leaders[0], "bhattacharyya")
    who = listed([f"{f}’s" for f in leaders])
    who += " tie for the nearest" if len(leaders) > 1 else " come nearest"
    if compare(first, truth) >= 0:
        floor = f"as near as a fresh true sample ({_pm(truth)})"
    else:
        floor = f"where a fresh true sample of the same size reaches {_pm(truth)}"
    yield Finding(f"Of the samples, {who}: Bhattacharyya {_pm(first)}, {floor}.")
    for family in results.families:
        measure = results.measure(target, family, "bhattacharyya")
        if measure is None or family in leaders or results.measure(target, family, "kl"):
            continue
        verdicts = _verdicts(results, target, measure, "bhattacharyya")
        tail = f" and {verdicts}" if verdicts else ""
        yield Finding(f"{family}, which has samples only, reaches {_pm(measure)}{tail}.")


def leaks(results: Results, target: str) -> Iterator[Finding]:
    """Who puts mass where the truth has none."""
    truth = results.measure(target, "truth", "off_support")
    if truth is None:
        return
    ranked = sorted(results.ranked(target, "off_support"), key=lambda pair: -pair[1].value)
    leaking = [(f, m) for f, m in ranked if compare(m, truth) > 0 and m.value - truth.value > LEAK]
    if leaking:
        shares = [f"{_percent(m)} of {f}’s samples" for f, m in leaking]
        floor = f"{_percent(truth)} of the truth’s"
        yield Finding(f"Off the support lie {listed(shares)}, against {floor}.")
    elif ranked:
        limit = f"{100 * LEAK:g}\N{NO-BREAK SPACE}%"
        yield Finding(f"No family measurably leaks over {limit} of its samples off the support.")


def hold_out_trends(results: Results, target: str) -> Iterator[Finding]:
    """Whose hold-out curve rises again, and whose is still falling at the end."""
    for family in results.families:
        cells = [c for c in results.cells(target, family) if c.curves and c.diverged_at is None]
        trends = [t for c in cells if (t := trend(c)) is not None]
        for kind in ("overfits", "worsens", "falls"):
            found = [t for t in trends if t.kind == kind]
            if found:
                often = f" ({len(found)} of {len(cells)} seeds)" if len(cells) > 1 else ""
                yield Finding(found[0].sentence(family) + often + ".")


def told_from_truth(results: Results, target: str) -> Iterator[Finding]:
    """Whose samples pass for true ones, and what gives the others away."""
    floors = results.floors(target)
    if floors is None:
        return
    pass_for_true, given_away = [], []
    for family in results.families:
        verdicts = [floors.verdict(c.scorecard) for c in results.cells(target, family) if c.done]
        if not verdicts:
            continue
        (fault, often), *_ = Counter(v.fault for v in verdicts).most_common()
        seeds = f" ({often} of {len(verdicts)} seeds)" if len(verdicts) > 1 else ""
        if fault is None:
            pass_for_true.append(f"{family}{seeds}")
        else:
            sentence = next(v.sentence for v in verdicts if v.fault == fault)
            given_away.append(f"{family}: {sentence}{seeds}")
    if pass_for_true:
        who = listed(pass_for_true)
        yield Finding(f"At n = {count(floors.n)} the samples of {who} pass for true ones.")
    if given_away:
        yield Finding(f"What gives samples away: {'; '.join(given_away)}.")


def own_density(results: Results, target: str) -> Iterator[Finding]:
    """Whose samples do not follow its own density: below perfect ones by over three errors."""
    for family, m in results.ranked(target, "self_bhattacharyya"):
        if m.value < -3 * m.stderr:
            yield Finding(
                f"The samples and the density of {family} differ beyond noise: their overlap falls "
                f"short of that of perfect samples by {plus_minus(-m.value, m.error)}.",
                "caveat",
            )


def bound_gaps(results: Results, target: str) -> Iterator[Finding]:
    """How much worse than the exact likelihood the bounds on it are."""
    for family in results.families:
        exact = results.measure(target, family, "nll")
        gaps = []
        for metric, words in BOUNDS.items():
            bound = results.measure(target, family, metric)
            if bound and exact and compare(bound, exact) > 0:
                gap = plus_minus(
                    bound.value - exact.value, math.hypot(bound.stderr, exact.stderr), unit="nats"
                )
                gaps.append(f"{words} is loose by {gap}")
        if gaps:
            yield Finding(f"{family}’s {listed(gaps)}.")


RULES: tuple[tuple[str, Rule], ...] = (
    ("Density", closest_density),
    ("Density", bound_gaps),
    ("Samples", nearest_samples),
    ("Samples", own_density),
    ("Support", leaks),
    ("Faults", told_from_truth),
    ("Training", hold_out_trends),
)
"""(topic, rule), in the order in which a report tells them."""


def _closest_overall(results: Results) -> Iterator[Finding]:
    winners = {t: w for t in results.targets if (w := best(results, t, "kl"))}
    if not winners:
        return
    clauses = []
    for (leader, *tied), on in _grouped(winners).items():
        verb = "tie for closest to the truth" if tied else "is closest to the truth"
        numbers = [f"{t} ({_pm(_measure(results, t, leader, 'kl'))})" for t in on]
        clauses.append(f"{listed([leader, *tied])} {verb} on {listed(numbers)}")
    yield Finding(f"By KL divergence, in nats, {'; '.join(clauses)}.")
    standings: dict[str, str] = {}
    for target, (leader, *_) in winners.items():
        first = _measure(results, target, leader, "kl")
        baselines = [m for b in BASELINES if (m := results.measure(target, b, "kl"))]
        if len(baselines) == len(BASELINES):
            standings[target] = _standing([compare(first, m) for m in baselines])
    if standings:
        clauses = [f"{verb} on {listed(on)}" for verb, on in _grouped(standings).items()]
        yield Finding(f"The best family {listed(clauses)}.")


def _standing(signs: list[int]) -> str:
    """How a KL stands to those of the two baselines, from the signs of the differences."""
    if min(signs) > 0:
        return "loses to both baselines"
    worst = {-1: "beats both", 0: "ties with the better of the two", 1: "loses to one of the two"}
    return f"{worst[max(signs)]} baselines"


def _nearest_samples_overall(results: Results) -> Iterator[Finding]:
    winners = {t: w for t in results.targets if (w := best(results, t, "bhattacharyya"))}
    if not winners:
        return
    clauses = [
        f"{listed([*leaders])} {'tie' if len(leaders) > 1 else 'leads'} on {listed(on)}"
        for leaders, on in _grouped(winners).items()
    ]
    yield Finding(f"By the overlap of samples with the truth, {'; '.join(clauses)}.")


def _leaks_overall(results: Results) -> Iterator[Finding]:
    found = [
        (m.value, f"{_percent(m)} ({f}, {t})")
        for t in results.targets
        for f, m in results.ranked(t, "off_support")
    ]
    if len(found) > 1:
        yield Finding(f"Samples off the support: from {min(found)[1]} to {max(found)[1]}.")


def _divergences(results: Results) -> Iterator[Finding]:
    for target in results.targets:
        for family in results.families:
            cells = results.cells(target, family)
            diverged = [c for c in cells if c.diverged_at is not None]
            if not diverged:
                continue
            which = family
            if len(cells) > 1:
                which = f"{len(diverged)} of {len(cells)} seeds of {family}"
            yield Finding(
                f"{which} on {target} {diverged[0].state}; the numbers are those of the "
                "best state before that.",
                "caveat",
            )


def _unfinished(results: Results) -> Iterator[Finding]:
    missing = results.missing()
    if not missing:
        return
    named = [f"{_where(results, c)} ({c.state})" for c in missing]
    if len(named) > AT_ONCE:
        named = [*named[:AT_ONCE], f"{len(named) - AT_ONCE} more"]
    yield Finding(
        f"The study is incomplete: of {len(results.plan.cells())} cells {len(missing)} are "
        f"missing, {listed(named)}.",
        "caveat",
    )


def _verdicts(results: Results, target: str, measure: Measure, metric: str) -> str:
    """Such as: beats the cross-validated KDE (0.178 ± 0.007) and ties with the Gaussian mixture."""
    better = -1 if metric not in LARGER_IS_BETTER else 1
    by_verb: dict[str, list[str]] = {}
    for name, words in BASELINES.items():
        baseline = results.measure(target, name, metric)
        if baseline is not None:
            sign = compare(measure, baseline)
            verb = "ties with" if sign == 0 else "beats" if sign == better else "loses to"
            by_verb.setdefault(verb, []).append(f"{words} ({_pm(baseline)})")
    return listed([f"{verb} {listed(names)}" for verb, names in by_verb.items()])


def _where(results: Results, files: CellFiles) -> str:
    seed = f" with seed {files.cell.seed}" if len(results.seeds) > 1 else ""
    return f"{files.cell.family} on {files.cell.target}{seed}"


Key = TypeVar("Key", bound=Hashable)


def _grouped(by_target: dict[str, Key]) -> dict[Key, list[str]]:
    groups: dict[Key, list[str]] = {}
    for target, key in by_target.items():
        groups.setdefault(key, []).append(target)
    return groups


def _measure(results: Results, target: str, family: str, metric: str) -> Measure:
    measure = results.measure(target, family, metric)
    assert measure is not None, (target, family, metric)
    return measure


def _pm(measure: Measure) -> str:
    return plus_minus(measure.value, measure.error)


def _percent(measure: Measure) -> str:
    return plus_minus(measure.value, measure.error, scale=100.0, unit="%")
