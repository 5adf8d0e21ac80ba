"""What the numbers say, in sentences, by rules.

A rule looks at the results and yields findings; every number in a sentence is taken from a cell's
files. "Better" and "worse" mean that the 95 % interval of the difference, paired by seed, does not
hold 0; anything less is a tie and is called one.
"""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Literal, TypeVar

from densitometer import metrics
from densitometer.findings import localise
from densitometer.findings.comparisons import compare
from densitometer.findings.digits import count, in_words, listed, plus_minus
from densitometer.findings.ranking import (
    BASELINES,
    Choice,
    behind,
    best,
    choice,
    impossible,
    larger_is_better,
    where,
)
from densitometer.findings.results import Measure, Results
from densitometer.findings.trends import trend
from densitometer.scoring.verdict import verdict

LEAK = 0.005
"""Share of samples off the support, above the truth's own, from which a leak is worth a word."""

_NOTHING = "No family has a number to compare yet."

AT_ONCE = 6
"""Things of one kind that are named one by one before the rest is counted."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence: a `caveat` limits what can be concluded, an `alarm` tells of what cannot be."""

    text: str
    kind: Literal["finding", "caveat", "alarm"] = "finding"


Rule = Callable[[Results, str], Iterator[Finding]]
"""Looks at one target, or at one family."""


def of_target(results: Results, target: str) -> dict[str, list[Finding]]:
    """How faithful the families are to one target, and which to choose, by topic."""
    return _told(RULES, results, target)


def of_family(results: Results, family: str) -> dict[str, list[Finding]]:
    """What one family does well and where it goes wrong, by topic."""
    return _told(FAMILY_RULES, results, family)


def _told(
    rules: "tuple[tuple[str, Rule], ...]", results: Results, name: str
) -> dict[str, list[Finding]]:
    told: dict[str, list[Finding]] = {}
    for topic, rule in rules:
        if sentences := list(rule(results, name)):
            told.setdefault(topic, []).extend(sentences)
    return told


def abstract(results: Results) -> list[Finding]:
    """What was done and the main finding, in a few sentences."""
    rules = results.plan.protocol
    families, targets = len(results.families), len(results.targets)
    done = (
        f"{in_words(families).capitalize()} {'family' if families == 1 else 'families'} of "
        f"generative models {'was' if families == 1 else 'were'} trained on {count(rules.n_train)} "
        f"points of {in_words(targets)} {'law' if targets == 1 else 'laws'} whose density is known "
        f"exactly, and measured against it, in nats, on {count(rules.n_test)} fresh points, beside "
        "two baselines, a kernel density estimate and a Gaussian mixture."
    )
    found = [*_choices_overall(results), *_standings_overall(results), *_verdicts_overall(results)]
    return [Finding(done), *(found or [Finding(_NOTHING, "caveat")])]


def overview(results: Results) -> list[Finding]:
    """The main findings over all targets, best first."""
    found = [
        *_closest_overall(results),
        *_standings_overall(results),
        *_nearest_samples_overall(results),
        *_leaks_overall(results),
        *_verdicts_overall(results),
    ]
    return found or [Finding(_NOTHING, "caveat")]


def caveats(results: Results) -> list[Finding]:
    """What a reader must know before believing a number: impossible values first."""
    found = [Finding(text, "alarm") for text in impossible(results).values()]
    if len(found) > AT_ONCE:
        more = f"{len(found) - AT_ONCE} more impossible numbers are marked in the tables."
        found = [*found[:AT_ONCE], Finding(more, "alarm")]
    return [*found, *_divergences(results), *_unfinished(results)]


def choose(results: Results, target: str) -> Iterator[Finding]:
    """Which family to choose, what does as well, and what it costs."""
    chosen = choice(results, target)
    density, samples = best(results, target, "kl"), best(results, target, "bhattacharyya")
    if chosen == Choice(None, None):
        return
    if chosen.density == chosen.samples:
        why = "no family’s density is closer and no family’s samples come nearer"
        equals = [f for f in density if f in samples and f != chosen.density]
    elif chosen.density and chosen.samples:
        why = f"no density is closer than {chosen.density}’s, but other samples come nearer"
        equals = []
    else:
        why = f"no family’s {'density is closer' if chosen.density else 'samples come nearer'}"
        equals = [f for f in density or samples if f not in chosen]
    yield Finding(f"Choose {chosen}: {why}.")
    if equals:
        yield Finding(f"On both counts {listed(equals)} cannot be told from it.")
    costs = {
        f: seconds
        for f in dict.fromkeys(f for f in (*chosen, *equals) if f)
        if (seconds := _seconds(results, target, f))
    }
    if costs:
        quickest = min(costs, key=lambda f: costs[f])
        first = next(f for f in chosen if f)
        text = ""
        if first in costs:
            text = f"A fit of {first} took {costs[first]:.0f} s"
        if quickest != first:
            text += f"{', ' if text else ''}of {quickest}, the quickest of these, "
            text += f"{costs[quickest]:.0f} s"
        yield Finding(f"{text}.")


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
    standing: dict[str, list[str]] = {}
    for family, measure in behind(results, target):
        better = [
            BASELINES[b]
            for b in BASELINES
            if (m := results.measure(target, b, "kl")) and compare(measure, m) > 0
        ]
        worse = "no worse than the baselines"
        if better:
            worse = "worse than " + ("both baselines" if len(better) == 2 else better[0])
        standing.setdefault(worse, []).append(f"{family} ({_pm(measure)})")
    if standing:
        clauses = [f"{listed(families)}, {worse}" for worse, families in standing.items()]
        yield Finding(f"Behind: {'; '.join(clauses)}.")


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


def strengths(results: Results, family: str) -> Iterator[Finding]:
    """Where a family is the best or as good, beats the baselines, or passes for true."""
    places: dict[tuple[str, ...], list[str]] = {}
    for metric in filter(lambda m: m.aspect, metrics.every()):
        if on := tuple(t for t in results.targets if family in best(results, t, metric.name)):
            places.setdefault(on, []).append(metric.aspect)
    clauses = [f"{listed(what)} on {_all(results, on)}" for on, what in places.items()]
    text = f"Best, alone or tied, by {'; by '.join(clauses)}." if clauses else "Nowhere the best."
    yield Finding(text)
    beats = [t for t in results.targets if {*_signs(results, t, family).values()} == {-1}]
    if beats:
        yield Finding(f"Its density beats both baselines on {_all(results, beats)}.")
    costs = {f: s for f in results.families if (s := _seconds(results, None, f))}
    if len(costs) > 1 and min(costs, key=lambda f: costs[f]) == family:
        yield Finding(f"The quickest to train, {costs[family]:.0f} s a fit in the median.")
    true = [t for t in results.targets if _passes(results, t, family)]
    if true:
        yield Finding(f"Its samples pass for true ones on {_all(results, true)}.")


def weaknesses(results: Results, family: str) -> Iterator[Finding]:
    """Its faults, each where it is the most certain, and where else it is."""
    letters = {fault: letter for letter, fault in localise.shown(results).items()}
    by_kind: dict[str, list[localise.Fault]] = {}
    for fault in localise.found(results)[family]:
        by_kind.setdefault(fault.kind, []).append(fault)
    for kind, alike in by_kind.items():
        worst = next((f for f in alike if f in letters), alike[0])
        picture = f" [{letters[worst]}]" if worst in letters else ""
        text = f"{kind.capitalize()} on {worst.target}{picture}: {worst.words}"
        others = [f.target for f in alike if f is not worst]
        yield Finding(text + (f"; also on {listed(others)}." if others else "."))
    loses = [t for t in results.targets if {*_signs(results, t, family).values()} == {1}]
    if loses:
        yield Finding(f"Its density loses to both baselines on {_all(results, loses)}.")


def told_from_truth(results: Results, target: str) -> Iterator[Finding]:
    """Whose samples pass for true ones, and what is wrong with those of the others."""
    true = [f for f in results.families if _passes(results, target, f)]
    if true:
        n = count(results.plan.protocol.n_samples)
        yield Finding(f"At n = {n} the samples of {listed(true)} pass for true ones.")
    by_kind: dict[str, list[str]] = {}
    for family, own in localise.found(results).items():
        for kind in dict.fromkeys(fault.kind for fault in own if fault.target == target):
            by_kind.setdefault(kind, []).append(family)
    if by_kind:
        clauses = [f"{kind} ({listed(who)})" for kind, who in by_kind.items()]
        yield Finding(f"Faults: {'; '.join(clauses)}.")


def hold_out_trends(results: Results, family: str) -> Iterator[Finding]:
    """Where its hold-out curve rises again, and where it is still falling at the end."""
    said = {"overfits": "Overfits", "worsens": "Gets worse", "falls": "Is not done"}
    told: dict[str, list[str]] = {}
    for target in results.targets:
        cells = [c for c in results.cells(target, family) if c.curves and c.diverged_at is None]
        trends = [t for c in cells if (t := trend(c)) is not None]
        for kind in said:
            alike = [t for t in trends if t.kind == kind]
            if alike:
                often = f", {len(alike)} of {len(cells)} seeds" if len(cells) > 1 else ""
                told.setdefault(kind, []).append(f"on {target} ({alike[0].words()}{often})")
    for kind in said:
        if kind in told:
            yield Finding(f"{said[kind]} {listed(told[kind])}.")


def own_density(results: Results, family: str) -> Iterator[Finding]:
    """Where its samples do not follow its own density: below perfect ones by over three errors."""
    for target in results.targets:
        m = results.measure(target, family, "self_bhattacharyya")
        if m and m.value < -3 * m.stderr:
            yield Finding(
                f"On {target} its samples and its density differ beyond noise: their overlap falls "
                f"short of that of perfect samples by {plus_minus(-m.value, m.error)}.",
                "caveat",
            )


def bound_gaps(results: Results, family: str) -> Iterator[Finding]:
    """How much worse than the exact likelihood the bounds on it are."""
    for metric in filter(lambda m: m.bounds, metrics.every()):
        gaps, how = [], ""
        for target in results.targets:
            exact = results.measure(target, family, metric.bounds)
            bound = results.measure(target, family, metric.name)
            if bound and exact and compare(bound, exact) > 0:
                error = math.hypot(bound.stderr, exact.stderr)
                gap = plus_minus(bound.value - exact.value, error, unit="nats")
                gaps.append(f"{gap} on {target}")
                how = f"{bound.kind} against {exact.kind}"
        if gaps:
            label = metric.label[0].lower() + metric.label[1:]
            yield Finding(f"Its {label} is loose by {listed(gaps)} ({how}; 0 if it were tight).")


RULES: tuple[tuple[str, Rule], ...] = (
    ("Choice", choose),
    ("Density", closest_density),
    ("Samples", nearest_samples),
    ("Samples", told_from_truth),
    ("Support", leaks),
)
"""(topic, rule) for a target, in the order in which a report tells them."""

FAMILY_RULES: tuple[tuple[str, Rule], ...] = (
    ("Well", strengths),
    ("Wrong", weaknesses),
    ("Wrong", own_density),
    ("Wrong", bound_gaps),
    ("Training", hold_out_trends),
)
"""(topic, rule) for a family."""


def _choices_overall(results: Results) -> Iterator[Finding]:
    """The choice of each target, with the number that speaks for it."""
    chosen = {t: c for t in results.targets if (c := choice(results, t)) != (None, None)}
    clauses = []
    for which, on in _grouped({t: str(c) for t, c in chosen.items()}).items():
        numbers = []
        for target in on:
            metric = "kl" if chosen[target].density else "bhattacharyya"
            family = chosen[target].density or chosen[target].samples
            assert family is not None
            numbers.append(f"{target} ({_pm(_measure(results, target, family, metric))})")
        clauses.append(f"{which} on {listed(numbers)}")
    if clauses:
        kl = any(c.density for c in chosen.values())
        what = "by KL divergence in nats" if kl else "by Bhattacharyya coefficient"
        yield Finding(f"Choose {'; '.join(clauses)}, {what}.")


def _verdicts_overall(results: Results) -> Iterator[Finding]:
    """How many pass for true, and the commonest fault."""
    passes = [
        p
        for t in results.targets
        for f in results.families
        if (p := _passes(results, t, f)) is not None
    ]
    if len(passes) < 2:
        return
    true, n = sum(passes), count(results.plan.protocol.n_samples)
    text = f"Of {len(passes)} models {true or 'none'} draw{'s' if true < 2 else ''} samples that "
    text += f"cannot be told from {n} true ones"
    told = {(f.target, f.family, f.kind) for own in localise.found(results).values() for f in own}
    if told:
        (kind, often), *_ = Counter(kind for *_, kind in sorted(told)).most_common()
        text += f"; the commonest fault is {kind} ({often} models)"
    yield Finding(f"{text}.")


def _passes(results: Results, target: str, family: str) -> bool | None:
    """Whether the samples of most seeds pass for true ones; None if it is not known."""
    floors = results.floors(target)
    cards = [c.scorecard for c in results.cells(target, family) if c.done]
    if floors is None or not cards:
        return None
    return 2 * sum(verdict(floors, card).fault is None for card in cards) > len(cards)


def _signs(results: Results, target: str, family: str) -> dict[str, int]:
    """How a family's KL compares with each baseline's; empty where some is missing."""
    own = results.measure(target, family, "kl")
    found = {b: m for b in BASELINES if (m := results.measure(target, b, "kl"))}
    if own is None or len(found) < len(BASELINES):
        return {}
    return {b: compare(own, m) for b, m in found.items()}


def _all(results: Results, targets: Sequence[str]) -> str:
    """The targets by name, or in a word."""
    if len(targets) == len(results.targets) > 2:
        return f"all {in_words(len(targets))} targets"
    return listed([*targets])


def _seconds(results: Results, target: str | None, family: str) -> float | None:
    """Median wall time of a fit."""
    seconds = [c.seconds for c in results.cells(target, family) if c.seconds == c.seconds]
    return statistics.median(seconds) if seconds else None


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


def _standings_overall(results: Results) -> Iterator[Finding]:
    """How the best density of each target stands to the baselines."""
    standings: dict[str, str] = {}
    for target in results.targets:
        leader = next(iter(best(results, target, "kl")), None)
        signs = leader and _signs(results, target, leader)
        if not signs:
            continue
        better = [BASELINES[b] for b, sign in signs.items() if sign > 0]
        if better:
            lost = "both baselines" if len(better) == len(BASELINES) else better[0]
            standings[target] = f"loses to {lost}"
        elif max(signs.values()) < 0:
            standings[target] = "beats both baselines"
        else:
            standings[target] = "ties with the better of the two baselines"
    if standings:
        clauses = [f"{verb} on {_all(results, on)}" for verb, on in _grouped(standings).items()]
        yield Finding(f"The best family’s density {listed(clauses)}.")


def _nearest_samples_overall(results: Results) -> Iterator[Finding]:
    winners = {
        t: tuple(f for f in results.families if f in w)
        for t in results.targets
        if (w := best(results, t, "bhattacharyya"))
    }
    if not winners:
        return
    clauses = [
        f"{listed([*leaders])} {'tie' if len(leaders) > 1 else 'leads'} on {_all(results, on)}"
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
    named = [f"{where(results, c)} ({c.state})" for c in missing]
    if len(named) > AT_ONCE:
        named = [*named[:AT_ONCE], f"{len(named) - AT_ONCE} more"]
    yield Finding(
        f"The study is incomplete: of {len(results.plan.cells())} cells {len(missing)} are "
        f"missing, {listed(named)}.",
        "caveat",
    )


def _verdicts(results: Results, target: str, measure: Measure, metric: str) -> str:
    """Such as: beats the cross-validated KDE (0.178 ± 0.007) and ties with the Gaussian mixture."""
    better = 1 if larger_is_better(metric) else -1
    by_verb: dict[str, list[str]] = {}
    for name, words in BASELINES.items():
        baseline = results.measure(target, name, metric)
        if baseline is not None:
            sign = compare(measure, baseline)
            verb = "ties with" if sign == 0 else "beats" if sign == better else "loses to"
            by_verb.setdefault(verb, []).append(f"{words} ({_pm(baseline)})")
    return listed([f"{verb} {listed(names)}" for verb, names in by_verb.items()])


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
