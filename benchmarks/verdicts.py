"""Plant faults in samples and see what the verdict calls them: the table of `docs/metrics.md`.

Of every kind and target some samples of 2000, judged as `densitometer score` does: how often the
verdict finds something, how often it gives the right names, all of them or some, and how often it
gives one that is wrong. Training points are known where they were memorised. A quarter of an hour
on two cores; stopped and started again, it goes on:

    python benchmarks/verdicts.py
"""

import argparse
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from densitometer.system.processes import configure_numerics, cores
from pages import fill
from planted import KINDS

FIRST_SEED = 1_600_000_000
"""Neither a study's, nor a floor's, nor another benchmark's."""

N = 2000
REPEATS = 10

Job = tuple[str, str, int]
"""Target, kind, seed."""


def judged(job: Job) -> dict | None:
    """What the verdict says; None if the target cannot have such a fault."""
    from densitometer import targets
    from densitometer.metrics.explanation import named
    from densitometer.scoring import floors
    from densitometer.scoring.evidence import Evidence, judge
    from densitometer.scoring.verdict import verdict
    from planted import can_have, planted, trained_on

    name, kind, seed = job
    target = targets.get(name)
    if not can_have(target, kind):
        return None
    samples = planted(target, kind, N, seed)
    train = trained_on(target, seed) if kind == "memorised" else None
    card = judge(Evidence(target, seed, samples, train=train))
    found = verdict(floors.of(target, N), card)
    faults = [sorted(one) for one in named(card["unexplained"].provenance)]
    told = [f for f in faults if found.cause is not None and found.cause != "duplicates"]
    return {"passes": found.passes, "sentence": found.sentence, "named": told}


def main() -> None:
    """Judge what has not been kept, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, default=Path("out/benchmark/verdicts.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/metrics.md"))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--workers", type=int, default=len(cores()))
    options = parser.parse_args()
    configure_numerics()
    from densitometer import targets

    kept = json.loads(options.keep.read_text("utf-8")) if options.keep.exists() else {}
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    seeds = range(FIRST_SEED, FIRST_SEED + options.repeats)
    names = targets.STUDIED
    jobs = [(t, kind, s) for s in seeds for kind in KINDS for t in names]
    left = [job for job in jobs if " ".join(map(str, job)) not in kept]
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        for job, found in zip(left, pool.map(judged, left, chunksize=8), strict=True):
            kept[" ".join(map(str, job))] = found
            if job == left[-1] or job[0] == names[-1]:
                options.keep.write_text(json.dumps(kept, indent=0), encoding="utf-8")
    by_kind = defaultdict(list)
    for job in jobs:
        if (found := kept[" ".join(map(str, job))]) is not None:
            by_kind[job[1]].append(found)
    fill(options.page, "verdicts", table(by_kind))
    print("\n".join(table(by_kind)))


def table(by_kind: dict[str, list[dict]]) -> Iterable[str]:
    """A line a kind: found, rightly named, named in part, wrongly, and what else is said."""
    yield "| planted | samples | found | all named | some named | a wrong name | said |"
    yield "|---|---|---|---|---|---|---|"
    for kind, what in KINDS.items():
        cards = by_kind[kind]
        found = [c for c in cards if not c["passes"]]
        # of rivals ("or") one must be right, and no rival may have a fault that is not there alone
        right = [any(set(one) == set(what.named) for one in c["named"]) for c in found]
        some = [any(set(one) < set(what.named) for one in c["named"]) for c in found]
        wrong = [
            bool(c["named"]) and not r and not s for c, r, s in zip(found, right, some, strict=True)
        ]
        said = [what.says in c["sentence"] for c in cards if what.says]
        numbers = [
            _share(len(found), len(cards)),
            _share(sum(right), len(found)) if what.named else "",
            _share(sum(s and not r for s, r in zip(some, right, strict=True)), len(found))
            if len(what.named) > 1
            else "",
            _share(sum(wrong), len(cards)),
            f"“{what.says}” {_share(sum(said), len(said))}" if what.says else "",
        ]
        yield f"| {what.words} | {len(cards)} | {' | '.join(numbers)} |"


def _share(count: int, n: int) -> str:
    return f"{100 * count / n:.0f} %" if n else "–"


if __name__ == "__main__":
    main()
