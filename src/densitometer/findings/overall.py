"""Sentences about a whole study: its abstract, its main findings, its caveats.

As in `sentences`, "better" and "worse" mean that the 95 % interval of a difference does not contain
0, all intervals of a target and a metric taken together.
"""

from collections import Counter
from collections.abc import Iterator

from densitometer.findings import localise
from densitometer.findings.digits import count, in_words, listed
from densitometer.findings.labels import in_prose, label
from densitometer.findings.phrases import (
    families,
    grouped,
    measured,
    number,
    percent,
    places,
)
from densitometer.findings.ranking import (
    BASELINES,
    best,
    choice,
    impossible,
    passes,
    signs,
    where,
)
from densitometer.findings.results import Results
from densitometer.findings.sentences import Finding

AT_ONCE = 6
"""Things of one kind that are named one by one before the rest is counted."""

_NOTHING = "No family has a number to compare yet."


def abstract(results: Results) -> list[Finding]:
    """What was done and the main finding, in a few sentences."""
    rules = results.plan.protocol
    models, targets = len(results.families), len(results.targets)
    one = targets == 1
    done = (
        f"{in_words(models).capitalize()} {'family' if models == 1 else 'families'} of "
        f"generative models {'was' if models == 1 else 'were'} trained on {count(rules.n_train)} "
        f"points of {'one distribution' if one else f'each of {in_words(targets)} distributions'} "
        f"whose density is known exactly, and compared with it, in nats, on "
        f"{count(rules.n_test)} fresh points, beside {in_words(len(BASELINES))} baselines, kernel "
        "density estimates and Gaussian mixtures."
    )
    found = [*_choices(results), *_standings(results), *_verdicts(results)]
    return [Finding(done), *(found or [Finding(_NOTHING, "caveat")]), *_one_fit(results)]


def overview(results: Results) -> list[Finding]:
    """The main findings over all targets, best first."""
    found = [
        *_closest_densities(results),
        *_standings(results),
        *_closest_samples(results),
        *_leaks(results),
        *_verdicts(results),
    ]
    return [*(found or [Finding(_NOTHING, "caveat")]), *_one_fit(results)]


def caveats(results: Results) -> list[Finding]:
    """What a reader must know before believing a number: impossible values first."""
    found = [Finding(text, "alarm") for text in impossible(results).values()]
    if len(found) > AT_ONCE:
        more = f"{len(found) - AT_ONCE} more impossible values are marked in the tables."
        found = [*found[:AT_ONCE], Finding(more, "alarm")]
    return [*found, *_divergences(results), *_unfinished(results)]


def _one_fit(results: Results) -> Iterator[Finding]:
    """Of a study with one seed: what its comparisons are about."""
    if len(results.seeds) == 1:
        yield Finding(
            "These are findings of one fit of each family: another seed may order them otherwise.",
            "caveat",
        )


def _choices(results: Results) -> Iterator[Finding]:
    """The choice of each target, with the number that speaks for it."""
    chosen = {t: c for t in results.targets if (c := choice(results, t)) != (None, None)}
    clauses = []
    for which, on in grouped({t: str(c) for t, c in chosen.items()}).items():
        numbers = []
        for target in on:
            metric = "kl" if chosen[target].density else "bhattacharyya"
            family = chosen[target].density or chosen[target].samples
            assert family is not None
            value = number(measured(results, target, family, metric))
            numbers.append(f"{in_prose(target)} ({value})")
        clauses.append(f"{which} on {listed(numbers)}")
    if clauses:
        kl = any(c.density for c in chosen.values())
        what = "by KL divergence in nats" if kl else "by Bhattacharyya coefficient"
        yield Finding(f"Choose {'; '.join(clauses)}, {what}.")


def _verdicts(results: Results) -> Iterator[Finding]:
    """How many models draw samples as an ideal learner might, and the commonest fault."""
    known = [
        p
        for t in results.targets
        for f in results.families
        if (p := passes(results, t, f)) is not None
    ]
    if len(known) < 2:
        return
    true, n = sum(known), count(results.plan.protocol.n_train)
    text = (
        f"Of {len(known)} models {true or 'none'} draw{'s' if true < 2 else ''} samples as close "
    )
    text += f"to the truth as an ideal learner’s of {n} points"
    faults = {(f.target, f.family, f.kind) for own in localise.found(results).values() for f in own}
    if faults:
        (kind, often), *_ = Counter(kind for *_, kind in sorted(faults)).most_common()
        text += f"; the commonest fault is {kind} ({often} model{'s' if often > 1 else ''})"
    yield Finding(f"{text}.")


def _closest_densities(results: Results) -> Iterator[Finding]:
    winners = {t: w for t in results.targets if (w := best(results, t, "kl"))}
    if not winners:
        return
    clauses = []
    for (leader, *tied), on in grouped(winners).items():
        verb = "tie for closest to the truth" if tied else "is closest to the truth"
        numbers = [f"{in_prose(t)} ({number(measured(results, t, leader, 'kl'))})" for t in on]
        clauses.append(f"{families([leader, *tied])} {verb} on {listed(numbers)}")
    yield Finding(f"By KL divergence, in nats, {'; '.join(clauses)}.")


def _standings(results: Results) -> Iterator[Finding]:
    """How the best density of each target compares with the baselines."""
    standings: dict[str, str] = {}
    for target in results.targets:
        leader = next(iter(best(results, target, "kl")), None)
        compared = leader and signs(results, target, leader)
        if not compared:
            continue
        better = [BASELINES[b] for b, sign in compared.items() if sign > 0]
        if better:
            lost = "every baseline" if len(better) == len(BASELINES) else listed(better)
            standings[target] = f"loses to {lost}"
        elif max(compared.values()) < 0:
            standings[target] = "beats every baseline"
        else:
            standings[target] = "ties with the best of the baselines"
    if standings:
        clauses = [f"{verb} on {places(results, on)}" for verb, on in grouped(standings).items()]
        yield Finding(f"The best family’s density {listed(clauses)}.")


def _closest_samples(results: Results) -> Iterator[Finding]:
    winners = {
        t: tuple(f for f in results.families if f in w)
        for t in results.targets
        if (w := best(results, t, "bhattacharyya"))
    }
    if not winners:
        return
    clauses = [
        f"{families(leaders)} {'tie' if len(leaders) > 1 else 'leads'} on {places(results, on)}"
        for leaders, on in grouped(winners).items()
    ]
    yield Finding(f"By the overlap of samples with the truth, {'; '.join(clauses)}.")


def _leaks(results: Results) -> Iterator[Finding]:
    found = [
        (m.value, f"{percent(m)} ({label(f)}, {in_prose(t)})")
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
            which = label(family)
            if len(cells) > 1:
                which = f"{len(diverged)} of {len(cells)} seeds of {which}"
            yield Finding(
                f"{which} on {in_prose(target)} {diverged[0].state}; the numbers are those of the "
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
