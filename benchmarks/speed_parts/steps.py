"""One training step: of every family, and the standard one beside PyTorch and bare products."""

import os
import time
from collections.abc import Callable
from typing import Any, cast

from densitometer.system.processes import cores
from speed_parts import Found

ROUNDS = 7
"""Times that a step is measured, in turn with what it is compared with; the best counts."""

STEPS = 200
"""Steps a measurement."""

WIDTH, DEPTH, BATCH = 128, 3, 256
"""The standard denoising network."""


def measure() -> Found:
    """One step of every family, on one core."""
    from densitometer import families

    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[0]})
    table = ["| | ms a step | points a step |", "|---|---|---|"]
    for name in families.FAMILIES:
        family = families.get(name)
        run, _ = stepper(family)
        table.append(f"| `{name}` | {1e3 * best(run):.2f} | {family.batch_size} |")
    lines, facts = denoising()
    os.sched_setaffinity(0, available)
    return [*table, "", *lines], facts


def stepper(family) -> tuple[Callable[[], None], object]:
    """A function that takes `STEPS` steps of a family, and a state of it."""
    import jax
    import jax.numpy as jnp

    from densitometer import training

    data = jax.random.normal(jax.random.key(0), (2000, 2))
    state = training._init(family, jax.random.key(1), data)

    def run() -> None:
        zero = jnp.asarray(0)
        ahead = training._scan(family, STEPS, jax.random.key(2), state, zero, data)
        jax.block_until_ready(ahead)

    return run, state


def denoising() -> Found:
    """The standard denoising step here, in PyTorch, and as bare matrix products."""
    import jax
    import jax.numpy as jnp

    from densitometer import families

    # Of the textbook's loss, whose target is one draw.
    family = families.get("cnf", width=WIDTH, depth=DEPTH, batch_size=BATCH, posterior_points=0)
    run, state = stepper(family)
    *sizes, last = [w.shape for w in cast(Any, state).network.mlp.weights]
    sizes.append(last[::-1])  # the last layer's weights lie the other way round
    flops = 3 * sum(2 * BATCH * i * o for i, o in sizes)
    contenders: dict[str, Callable[[], None]] = {"this package": run}

    factors = [(jnp.ones((BATCH, WIDTH)), jnp.ones((WIDTH, WIDTH)))]

    @jax.jit
    def products(a, b):
        return jax.lax.fori_loop(0, STEPS, lambda _, x: 1e-3 * (x @ b), a)

    contenders["bare products"] = lambda: products(*factors[0]).block_until_ready()
    contenders |= pytorch(sizes)
    times = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            times[name].append((time.perf_counter() - began) / STEPS)
    ours = min(times["this package"])
    peak = 2 * BATCH * WIDTH * WIDTH / min(times["bare products"])
    lines = ["| the standard denoising step | ms | times ours |", "|---|---|---|"]
    for name, values in times.items():
        if name != "bare products":
            lines.append(f"| {name} | {1e3 * min(values):.3f} | {min(values) / ours:.2f} |")
    share = 100 * flops / ours / peak
    facts = {"products": share}
    if theirs := [min(v) for name, v in times.items() if "PyTorch" in name]:
        facts["pytorch"] = min(theirs) / ours
    lines += [
        "",
        f"Matrix products alone run at {peak / 1e9:.0f} GFLOP/s; "
        f"the step does its own at {flops / ours / 1e9:.0f}, {share:.0f} %.",
    ]
    return lines, facts


def pytorch(sizes: list[tuple[int, int]]) -> dict[str, Callable[[], None]]:
    """The same network, loss and optimiser in PyTorch, if there is one."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}
    torch.set_num_threads(1)
    found = {}
    for name, compiled in (("eager, fused Adam", False), ("compiled", True)):
        layers: list[torch.nn.Module] = []
        for i, o in sizes:
            layers += [torch.nn.Linear(i, o), torch.nn.SiLU()]
        network = torch.nn.Sequential(*layers[:-1])
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        data = torch.randn(2000, 2)
        frequencies = torch.randn(2, 16)

        def loss(network=network, data=data, frequencies=frequencies) -> torch.Tensor:
            x1 = data[torch.randint(0, len(data), (BATCH,))]
            t, x0 = torch.rand(BATCH, 1), torch.randn(BATCH, 2)
            z = t * x1 + (1 - t) * x0
            phase, clock = z @ frequencies, t * torch.tensor([[1.0, 2.0, 4.0, 8.0]])
            features = [z, phase.cos(), phase.sin(), t, clock.cos(), clock.sin()]
            return ((network(torch.cat(features, 1)) - (x1 - x0)) ** 2).mean()

        objective = torch.compile(loss) if compiled else loss

        def run(optimiser=optimiser, objective=objective) -> None:
            for _ in range(STEPS):
                optimiser.zero_grad()
                objective().backward()
                optimiser.step()

        found[f"PyTorch {torch.__version__.split('+')[0]}, {name}"] = run
    return found


def best(run: Callable[[], None]) -> float:
    """Seconds a step, the best of some."""
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) / STEPS)
    return min(times)
