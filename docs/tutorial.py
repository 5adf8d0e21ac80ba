# %% [markdown]
# # From a target to a scorecard
#
# A target is a distribution whose density is known exactly. We draw training points from it, fit a
# continuous normalizing flow, look at its samples and its density, and measure how far it is from
# the truth. All of this takes about a minute on one core.

# %%
# %matplotlib inline
import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import densitometer as dm
from densitometer.report import style

plt.rcParams |= style.RC | {"figure.dpi": 110}
target = dm.targets.get("pinwheel")
print(type(target).__doc__.splitlines()[0])
print(f"Its entropy is {target.entropy.value:.4f} nats.")

# %% [markdown]
# ## The truth
#
# A target does two things: it samples, given a JAX random key and a number, and it gives the
# log-density of one point or of any batch of points, in nats. We draw what every family gets: 2000
# training points, and 500 hold-out points that will choose when to stop.

# %%
train_key, holdout_key, fresh_key = jax.random.split(jax.random.key(0), 3)
train = target.sample(train_key, 2000)
holdout = target.sample(holdout_key, 500)
truth = target.sample(fresh_key, 2000)

axis = np.linspace(-1.05, 1.05, 160)
grid = np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float32)
ramp = LinearSegmentedColormap.from_list("density", style.DENSITY_RAMP)


def show(ax, title, points=None, colour=style.TRUTH_UNDER, log_density=None):
    """Points, or a map of a log-density over eight nats, in a window without ticks."""
    if points is not None:
        ax.plot(*points.T, "o", ms=1.3, mew=0, color=colour)
    if log_density is not None:
        ends = (axis[0], axis[-1], axis[0], axis[-1])
        clipped = np.clip(log_density, -5, 3)
        ax.imshow(clipped, origin="lower", extent=ends, cmap=ramp, vmin=-5, vmax=3)
    limits = (axis[0], axis[-1])
    ax.set(title=title, aspect="equal", xlim=limits, ylim=limits, xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=style.RULE)


figure, (left, right) = plt.subplots(1, 2, figsize=(5, 2.6))
show(left, "2000 true points", truth)
show(right, "log-density", log_density=target.log_prob(grid))

# %% [markdown]
# ## A family
#
# A family is a way to learn, and nothing but its hyper-parameters. This one carries noise to data
# along a velocity field, learnt by flow matching.

# %%
family = dm.families.get("cnf")
for name, value in family.hyperparameters().items():
    print(f"{name:<18}{value}")

# %% [markdown]
# ## Training
#
# `fit` standardises the points, runs the compiled loop, evaluates the hold-out loss 20 times on the
# way, and keeps the state that was best there.

# %%
result = dm.fit(family, train, holdout, seed=0)
print(f"kept the state of step {result.selected_step} of {family.steps}")

# %% [markdown]
# The family's own loss, here the negative log-likelihood in standardised coordinates, on training
# points and on the hold-out set. Where the two part, a model learns its points by heart.

# %%
figure, ax = plt.subplots(figsize=(4.2, 2.3))
x, colour = result.curves["step"], style.colour("cnf")
ax.plot(x, result.curves["train_loss"], color=colour, lw=2.5, alpha=0.4, label="training")
ax.plot(x, result.curves["holdout_loss"], color=colour, lw=1, label="hold-out")
kept = x == result.selected_step
ax.plot(x[kept], result.curves["holdout_loss"][kept], "o", color=colour, label="kept")
ax.set(xlabel="gradient steps", ylabel="−log q, nats")
_ = ax.legend()

# %% [markdown]
# ## Samples
#
# Every model samples. This one is a flow, so we can also watch it: `path` gives the way of each
# point from noise to data.

# %%
model = result.model
frames = model.path(jax.random.key(1), 2000, 5)
figure, axes = plt.subplots(1, 6, figsize=(7.4, 1.6))
names = ("noise", "¼", "½", "¾", "samples")
for ax, points, name in zip(axes[:5], frames, names, strict=True):
    show(ax, name, np.asarray(points), colour)
show(axes[5], "truth", truth)

# %% [markdown]
# ## Density
#
# Whether a model has a density is said by its type; this one has, by an ODE. Both maps share one
# colour scale, eight nats from white to black. White is where there should be nothing.

# %%
figure, axes = plt.subplots(1, 2, figsize=(5, 2.6))
show(axes[0], "truth", log_density=target.log_prob(grid))
show(axes[1], "model", log_density=model.log_prob(grid))

# %% [markdown]
# ## The scorecard
#
# Each number with its standard error, beside what the truth scores: the central 95 % of fresh true
# samples of the same size, or for densities the truth's own value within the error. An exclamation
# mark is beyond that. The last line asks all metrics at once, and names the fault that gives the
# samples away.

# %%
card = dm.score(model, target, seed=0)
print(card)

# %% [markdown]
# ## Is that good?
#
# A number wants company. A kernel density estimate with a cross-validated bandwidth learns from the
# same points, with no network at all, and is a model like any other. The Kullback–Leibler
# divergence is the mean of log p − log q over fresh true points, so it can be had by hand:

# %%
from densitometer.scoring.baselines import KDE

fresh = target.sample(jax.random.key(2), 10_000)
log_p = target.log_prob(fresh)
for name, fitted in (("cnf", model), ("kde", KDE.fit(train))):
    terms = np.asarray(log_p - fitted.log_prob(fresh))
    error = terms.std() / np.sqrt(len(terms))
    print(f"{name}  KL = {terms.mean():.3f} ± {error:.3f} nats")

# %% [markdown]
# ## Keep it
#
# A model is saved as named arrays and the hyper-parameters of its family. Loading it executes
# nothing, and gives the same bits.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

with TemporaryDirectory() as folder:
    dm.save(Path(folder) / "model.safetensors", model, family)
    again = dm.load(folder)
same = again.sample(jax.random.key(3), 5) == model.sample(jax.random.key(3), 5)
print("the same samples:", bool(same.all()))

# %% [markdown]
# From here: [bring your own samples](scoring.md), [add a family](new-family.md), or read what
# [the metrics](metrics.md) see and what they are blind to.
