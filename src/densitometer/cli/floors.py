"""Floors that a command needs, measured with a word of how long it takes and a bar."""

from densitometer.cli.console import warn


def measure_floors(name: str, n: int, n_test: int, hint: str = "") -> None:
    """Measure the scores of `n` true samples of a target, unless they are known."""
    from rich.console import Console
    from rich.progress import Progress

    from densitometer import targets
    from densitometer.scoring import floors
    from densitometer.system.processes import cores

    target, workers = targets.get(name), len(cores())
    if floors.known_floors(target, n, n_test) is not None:
        return
    minutes = round(floors.seconds_to_measure(target, n, n_test) / workers / 60)
    warn(
        f"measuring what {n} true samples of {name} score takes about {minutes or 1} min, "
        f"once{hint}."
    )
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        progress = lambda done, of: bars.update(bar, completed=done, total=of)
        floors.of(target, n, n_test, workers=workers, progress=progress)
