"""Sentences about one target or one family, by rules.

A rule takes the results and yields findings; every number in a sentence comes from a cell's files.
"Better" and "worse" mean that the 95 % interval of the difference does not contain 0, all intervals
of a target and a metric taken together (see `comparisons`); otherwise the two tie. With one seed
the difference is that of these fits, and the sentences say so.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Literal

from densitometer import metrics
from densitometer.findings import localise
from densitometer.findings.comparisons import difference
from densitometer.findings.digits import count, listed, plus_minus
from densitometer.findings.labels import in_prose, label
from densitometer.findings.phrases import (
    families,
    fits,
    measured,
    none_of,
    number,
    of_these,
    percent,
    places,
    seconds,
)
from densitometer.findings.ranking import (
    BASELINES,
    Choice,
    behind,
    best,
    choice,
    comparison,
    larger_is_better,
    passes,
    signs,
    within_floor,
)
from densitometer.findings.results import Results
from densitometer.findings.trends import trend

LEAK = 0.005
"""Share of samples off the support, above the truth's own, from which a leak is reported."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence; a `caveat` limits what can be concluded, an `alarm` means an impossible value."""

    text: str
    kind: Literal["finding", "caveat", "alarm"] = "finding"


Rule = Callable[[Results, str], Iterator[Finding]]
"""From the results, sentences about one target or one family."""


def of_target(results: Results, target: str) -> dict[str, list[Finding]]:
    """How close the families come to one target, and which to choose, by topic."""
    return _by_topic(RULES, results, target)


def of_family(results: Results, family: str) -> dict[str, list[Finding]]:
    """What one family does well and where it goes wrong, by topic."""
    return _by_topic(FAMILY_RULES, results, family)


def _by_topic(
    rules: "tuple[tuple[str, Rule], ...]", results: Results, name: str
) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for topic, rule in rules:
        if sentences := list(rule(results, name)):
            found.setdefault(topic, []).extend(sentences)
    return found


def choose(results: Results, target: str) -> Iterator[Finding]:
    """Which family to choose, what does as well, and what it costs."""
    chosen = choice(results, target)
    density, samples = best(results, target, "kl"), best(results, target, "bhattacharyya")
    if chosen == Choice(None, None):
        return
    if chosen.density == chosen.samples:
        why = f"{none_of(results)} is shown to be closer to the truth, by density or by samples"
        equals = [f for f in density if f in samples and f != chosen.density]
    elif chosen.density and chosen.samples:
        why = (
            f"{none_of(results)} is shown to have a closer density than "
            f"{label(chosen.density)}, but other samples are closer"
        )
        equals = []
    else:
        by = "density" if chosen.density else "samples"
        why = f"{none_of(results)} is shown to be closer to the truth by its {by}"
        equals = [f for f in density or samples if f not in chosen]
    yield Finding(f"Choose {chosen}: {why}.")
    if equals:
        by = "By either measure " if chosen.density and chosen.samples else ""
        yield Finding(f"{by}{families(equals)} cannot be distinguished from it.")
    costs = {
        f: cost
        for f in dict.fromkeys(f for f in (*chosen, *equals) if f)
        if (cost := seconds(results, target, f))
    }
    if costs:
        first, quickest = next(f for f in chosen if f), min(costs, key=lambda f: costs[f])
        named = [f for f in dict.fromkeys((first, quickest)) if f in costs]
        times = [f"{costs[f]:.0f} s for {label(f)}" for f in named]
        note = "" if quickest == first else ", the quickest of these"
        yield Finding(f"A fit took {listed(times)}{note}.")


def closest_density(results: Results, target: str) -> Iterator[Finding]:
    """The smallest KL, and whether it beats the baselines."""
    leaders = best(results, target, "kl")
    if not leaders:
        return
    first = measured(results, target, leaders[0], "kl")
    if len(leaders) == 1:
        text = f"the closest density is that of {label(leaders[0])}, KL {number(first)} nats"
    else:
        kl = lambda family: number(measured(results, target, family, "kl"))
        tied = [f"{label(f)} ({kl(f)} nats)" for f in leaders]
        text = f"{listed(tied)} tie for the closest density"
    text = of_these(results, text)
    verdicts = _verdicts(results, target, leaders[0], "kl")
    subject = "it" if len(leaders) == 1 else label(leaders[0])
    yield Finding(f"{text}; {subject} {verdicts}." if verdicts else f"{text}.")
    standing: dict[str, list[str]] = {}
    compared = comparison(results, target, "kl")
    for family, measure in behind(results, target):
        against = {b: compared.sign(family, b) for b in BASELINES}
        better = [BASELINES[b] for b, sign in against.items() if sign > 0]
        worse = "not shown to be worse than the baselines"
        if max(against.values()) < 0:
            worse = "better than every baseline"
        if better:
            every = len(better) == len(BASELINES)
            worse = "worse than " + ("every baseline" if every else listed(better))
        standing.setdefault(worse, []).append(f"{label(family)} ({number(measure)})")
    if standing:
        clauses = [f"{listed(names)}, {worse}" for worse, names in standing.items()]
        yield Finding(f"Behind: {'; '.join(clauses)}.")


def closest_samples(results: Results, target: str) -> Iterator[Finding]:
    """The samples that overlap most with the truth, beside what a true sample reaches."""
    leaders = best(results, target, "bhattacharyya")
    truth = results.measure(target, "truth", "bhattacharyya")
    if not leaders or truth is None:
        return
    who = f"those of {families(leaders)}"
    who += " tie for the closest" if len(leaders) > 1 else " are closest"
    closest = next(iter(leaders))
    first = measured(results, target, closest, "bhattacharyya")
    if within_floor(results, target, closest, "bhattacharyya"):
        floor = f"not distinguishable from that of a fresh true sample ({number(truth)})"
    else:
        floor = f"where a fresh true sample of the same size reaches {number(truth)}"
    yield Finding(f"Of the samples{fits(results)}, {who}: Bhattacharyya {number(first)}, {floor}.")
    for family in results.families:
        measure = results.measure(target, family, "bhattacharyya")
        if measure is None or family in leaders or results.measure(target, family, "kl"):
            continue
        verdicts = _verdicts(results, target, family, "bhattacharyya")
        tail = f" and {verdicts}" if verdicts else ""
        yield Finding(f"{label(family)}, which has samples only, reaches {number(measure)}{tail}.")


def leaks(results: Results, target: str) -> Iterator[Finding]:
    """The families that put mass where the truth has none."""
    truth = results.measure(target, "truth", "off_support")
    if truth is None:
        return
    ranked = sorted(results.ranked(target, "off_support"), key=lambda pair: -pair[1].value)
    compared = comparison(results, target, "off_support")
    leaking = [
        (f, m) for f, m in ranked if compared.sign(f, "truth") > 0 and m.value - truth.value > LEAK
    ]
    if leaking:
        shares = [f"{percent(m)} of {label(f)}’s samples" for f, m in leaking]
        floor = f"against {percent(truth)} of the truth’s"
        yield Finding(of_these(results, f"{listed(shares)} lie off the support, {floor}.", "In"))
    elif ranked:
        limit = f"{100 * LEAK:g}\N{NO-BREAK SPACE}%"
        none = none_of(results, capital=True)
        yield Finding(
            f"{none} is shown to put more than {limit} of its samples off the support above the "
            "truth’s own share."
        )


def strengths(results: Results, family: str) -> Iterator[Finding]:
    """Where a family is the best or as good, beats the baselines, or draws as from the truth."""
    bests: dict[tuple[str, ...], list[str]] = {}
    for metric in filter(lambda m: m.aspect, metrics.every()):
        if on := tuple(t for t in results.targets if family in best(results, t, metric.name)):
            bests.setdefault(on, []).append(metric.aspect)
    clauses = [f"{listed(what)} on {places(results, on)}" for on, what in bests.items()]
    which = fits(results)
    text = f"Best{which}, alone or tied, by {'; by '.join(clauses)}." if clauses else None
    yield Finding(text or f"Nowhere the best{which}.")
    beats = [t for t in results.targets if {*signs(results, t, family).values()} == {-1}]
    if beats:
        text = f"its density beats every baseline on {places(results, beats)}."
        yield Finding(of_these(results, text, "In"))
    costs = {f: s for f in results.families if (s := seconds(results, None, f))}
    if len(costs) > 1 and min(costs, key=lambda f: costs[f]) == family:
        yield Finding(f"The quickest to train, {costs[family]:.0f} s a fit in the median.")
    true = [t for t in results.targets if passes(results, t, family)]
    if true:
        yield Finding(
            "Its samples are as close to the truth as an ideal learner’s on "
            f"{places(results, true)}."
        )


def weaknesses(results: Results, family: str) -> Iterator[Finding]:
    """Its faults, each where it is most certain, and where else it is."""
    letters = {fault: letter for letter, fault in localise.shown(results).items()}
    by_kind: dict[str, list[localise.Fault]] = {}
    for fault in localise.found(results)[family]:
        by_kind.setdefault(fault.kind, []).append(fault)
    for kind, faults in by_kind.items():
        worst = next((f for f in faults if f in letters), faults[0])
        picture = f" [{letters[worst]}]" if worst in letters else ""
        text = f"{kind.capitalize()} on {in_prose(worst.target)}{picture}: {worst.words}"
        others = [in_prose(f.target) for f in faults if f is not worst]
        yield Finding(text + (f"; also on {listed(others)}." if others else "."))
    loses = [t for t in results.targets if {*signs(results, t, family).values()} == {1}]
    if loses:
        text = f"its density loses to every baseline on {places(results, loses)}."
        yield Finding(of_these(results, text, "In"))


def distinguished_from_truth(results: Results, target: str) -> Iterator[Finding]:
    """The samples that an ideal learner might have drawn, and the faults of the others."""
    true = [f for f in results.families if passes(results, target, f)]
    if true:
        n = count(results.plan.protocol.n_samples)
        yield Finding(
            f"At n = {n} the samples of {families(true)} are as close to the truth as an ideal "
            "learner’s."
        )
    by_kind: dict[str, list[str]] = {}
    for family, own in localise.found(results).items():
        for kind in dict.fromkeys(fault.kind for fault in own if fault.target == target):
            by_kind.setdefault(kind, []).append(family)
    if by_kind:
        clauses = [f"{kind} ({families(who)})" for kind, who in by_kind.items()]
        yield Finding(f"Faults: {'; '.join(clauses)}.")


def hold_out_trends(results: Results, family: str) -> Iterator[Finding]:
    """Where its hold-out curve rises again, and where it is still falling at the end."""
    verbs = {"overfits": "Overfits", "worsens": "Gets worse", "falls": "Has not converged"}
    found: dict[str, list[str]] = {}
    for target in results.targets:
        cells = [c for c in results.cells(target, family) if c.curves and c.diverged_at is None]
        trends = [t for c in cells if (t := trend(c)) is not None]
        for kind in verbs:
            same = [t for t in trends if t.kind == kind]
            if same:
                often = f", {len(same)} of {len(cells)} seeds" if len(cells) > 1 else ""
                which = f"on {in_prose(target)} ({same[0].words()}{often})"
                found.setdefault(kind, []).append(which)
    for kind, verb in verbs.items():
        if kind in found:
            yield Finding(f"{verb} {listed(found[kind])}.")


def own_density(results: Results, family: str) -> Iterator[Finding]:
    """Where its samples do not follow its own density: over three standard errors below perfect."""
    for target in results.targets:
        m = results.measure(target, family, "self_bhattacharyya")
        if m and m.value < -3 * m.stderr:
            yield Finding(
                f"On {in_prose(target)} its samples and its density differ beyond noise: their "
                f"overlap falls short of that of perfect samples by "
                f"{plus_minus(-m.value, m.error)}.",
                "caveat",
            )


def bound_gaps(results: Results, family: str) -> Iterator[Finding]:
    """How much worse than the exact likelihood the bounds on it are."""
    for metric in filter(lambda m: m.bounds, metrics.every()):
        gaps, how = [], ""
        for target in results.targets:
            exact = results.measure(target, family, metric.bounds)
            bound = results.measure(target, family, metric.name)
            if bound and exact and difference(bound, exact).sign > 0:
                error = math.hypot(bound.stderr, exact.stderr)
                gap = plus_minus(bound.value - exact.value, error, unit="nats")
                gaps.append(f"{gap} on {in_prose(target)}")
                how = f"{bound.kind} against {exact.kind}"
        if gaps:
            bound = metric.label[0].lower() + metric.label[1:]
            yield Finding(f"Its {bound} is loose by {listed(gaps)} ({how}; 0 if it were tight).")


RULES: tuple[tuple[str, Rule], ...] = (
    ("Choice", choose),
    ("Density", closest_density),
    ("Samples", closest_samples),
    ("Samples", distinguished_from_truth),
    ("Support", leaks),
)
"""(topic, rule) for a target, in the order of a report."""

FAMILY_RULES: tuple[tuple[str, Rule], ...] = (
    ("Strengths", strengths),
    ("Weaknesses", weaknesses),
    ("Weaknesses", own_density),
    ("Weaknesses", bound_gaps),
    ("Training", hold_out_trends),
)
"""(topic, rule) for a family."""


def _verdicts(results: Results, target: str, family: str, metric: str) -> str:
    """Such as: beats the cross-validated KDE (0.178 ± 0.007) and ties with the GMM."""
    better = -1 if not larger_is_better(metric) else 1
    compared = comparison(results, target, metric)
    by_verb: dict[str, list[str]] = {}
    for name, words in BASELINES.items():
        baseline = results.measure(target, name, metric)
        if baseline is not None and {family, name} <= compared.by_seed.keys():
            sign = compared.sign(family, name)
            verb = "ties with" if sign == 0 else "beats" if sign == better else "loses to"
            by_verb.setdefault(verb, []).append(f"{words} ({number(baseline)})")
    return listed([f"{verb} {listed(names)}" for verb, names in by_verb.items()])
