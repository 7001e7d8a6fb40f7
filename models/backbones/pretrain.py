"""Make the pretrained backbones of the built-in suite: `python models/backbones/pretrain.py [name ...]`.

Each writes `model.safetensors`, `config.json` and `card.md` into the folder of its name beside this file. Everything
random follows from fixed seeds: the same machine and versions give the same files. `measure(name)` evaluates what
is there; its figure is the one that the card states.
"""

import functools
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayes_prehoc.probes.backbones import (
    DecoderConfig,
    MLPConfig,
    NetworkConfig,
    build,
    forward,
    load_backbone,
    save_backbone,
)
from bayes_prehoc.probes.objectives import judge
from bayes_prehoc.probes.suite import load_data, suite_task
from bayes_prehoc.probes.suite.data import MODULUS, addition, tabular

HERE = Path(__file__).resolve().parent
MASKED = 0.3


class Recipe(NamedTuple):
    """How a backbone is made. `data()` gives (train_x, train_y, held_x, held_y)."""

    config: NetworkConfig
    data: callable
    objective: callable
    metric: callable
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    reached: str
    on: str
    about: str
    licence: str


def digits_low():
    """Digits 0 to 4, of which fine-tuning sees nothing."""
    x, y = tabular("digits", range(5))
    rows = np.random.default_rng(0).permutation(len(x))
    x, y = x[rows] / np.float32(16), y[rows]
    return x[:700], y[:700], x[700:], y[700:]


def features_of(task: str):
    """The standardised features of a task's training set, and of its probe set as held-out rows; no labels."""
    data = load_data(suite_task(task))
    return data.train_x, data.train_x, data.probe_x, data.probe_x


def sums_below_100():
    """Sums of numbers below 100; 2000 of them are held out."""
    x, y = (
        np.concatenate(parts)
        for parts in zip(*(addition(d, n, np.random.default_rng(d)) for d, n in ((1, 100), (2, 9900))), strict=True)
    )
    rows = np.random.default_rng(0).permutation(len(x))
    x, y = x[rows], y[rows]
    return x[:-2000], y[:-2000], x[-2000:], y[-2000:]


def memorised_pairs():
    """The training pairs of the grokking task themselves: memorising them is the point."""
    data = load_data(suite_task("grokking"))
    return data.train_x, data.train_y, data.train_x, data.train_y


def classify(config, params, x, y, key):
    """Cross-entropy."""
    return judge(forward(config, params, x), y).loss.mean()


def share_right(config, params, x, y):
    """Share of examples answered right, all tokens of them."""
    return float(judge(forward(config, params, x), y).right.mean())


def reconstruct(config, params, x, y, key):
    """Mean squared error on features that were hidden (set to their mean, 0)."""
    hidden = jax.random.bernoulli(key, MASKED, x.shape)
    error = (forward(config, params, jnp.where(hidden, 0.0, x)) - y) ** 2
    return (error * hidden).sum() / hidden.sum()


def share_explained(config, params, x, y):
    """R squared of hidden features on held-out rows, over 100 draws of what is hidden."""
    keys = jax.random.split(jax.random.key(1), 100)
    error = np.mean([reconstruct(config, params, x, y, key) for key in keys])
    return float(1 - error / np.mean(np.square(x)))


UNLABELLED = (
    "reconstruct hidden features from the others (30% hidden), on the training rows of the task and without its labels"
)
BSD = "the data come with scikit-learn (BSD-3-Clause); the weights are under this package's licence, Apache-2.0"
OWN = "generated; the weights are under this package's licence, Apache-2.0"

RECIPES = {
    "digits-low": Recipe(
        MLPConfig(64, (64, 64), 5), digits_low, classify, share_right, 600, 64, 1e-3, 1e-2, "accuracy",
        "201 held-out images", "Classify handwritten digits 0 to 4 (8 x 8 pixels, 700 images).", BSD,
    ),
    "cancer-features": Recipe(
        MLPConfig(30, (32, 32), 30), functools.partial(features_of, "cancer"), reconstruct, share_explained,
        2000, 32, 2e-3, 1e-2, "share of variance explained", "hidden features of the probe rows",
        f"Wisconsin breast cancer measurements: {UNLABELLED}.", BSD,
    ),
    "wine-features": Recipe(
        MLPConfig(13, (32, 32), 13), functools.partial(features_of, "wine"), reconstruct, share_explained,
        1000, 16, 2e-3, 1e-2, "share of variance explained", "hidden features of the probe rows",
        f"Wine measurements: {UNLABELLED}.", BSD,
    ),
    "addition-2": Recipe(
        DecoderConfig(12, 11, 4, 32, 1, 4, 128), sums_below_100, classify, share_right,
        4000, 128, 4e-3, 1e-2, "exact match", "2,000 held-out sums",
        "Add numbers below 100, written with three digits, answer least significant digit first.", OWN,
    ),
    "modular-memorised": Recipe(
        DecoderConfig(MODULUS + 1, 3, 1, 48, 1, 4, 96), memorised_pairs, classify, share_right,
        2500, 256, 2e-3, 0.0, "exact match", "the training pairs themselves",
        f"Memorise pairs of addition modulo {MODULUS}: right on them, mostly wrong elsewhere.", OWN,
    ),
}  # fmt: skip


def train(recipe: Recipe, x, y, seed: int = 0) -> dict:
    """Adam with a cosine decay from fresh parameters."""
    init_key, order_key, loss_key = jax.random.split(jax.random.key(seed), 3)
    schedule = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps)
    optimizer = optax.adamw(schedule, weight_decay=recipe.weight_decay)
    loss_of = functools.partial(recipe.objective, recipe.config)

    def step(carry, index):
        params, state = carry
        rows = jax.random.choice(jax.random.fold_in(order_key, index), len(x), (recipe.batch_size,), replace=False)
        loss, gradient = jax.value_and_grad(loss_of)(params, x[rows], y[rows], jax.random.fold_in(loss_key, index))
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    @jax.jit
    def all_steps(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(recipe.steps))[0][0]

    x, y = jnp.asarray(x), jnp.asarray(y)
    return jax.tree.map(np.asarray, all_steps(build(recipe.config, init_key)))


def measure(name: str) -> float:
    """What the backbone that is there reaches, measured again."""
    recipe, backbone = RECIPES[name], load_backbone(name)
    *_, x, y = recipe.data()
    return recipe.metric(recipe.config, backbone.params, x, y)


def pretrain(name: str) -> float:
    """Make a backbone, write its files, and return what it reached."""
    recipe = RECIPES[name]
    train_x, train_y, held_x, held_y = recipe.data()
    params = train(recipe, train_x, train_y)
    value = recipe.metric(recipe.config, params, held_x, held_y)
    reached = {"metric": recipe.reached, "value": round(value, 4), "on": recipe.on}
    save_backbone(HERE / name, recipe.config, params, reached, card(name, recipe, params, reached))
    return value


def card(name: str, recipe: Recipe, params: dict, reached: dict) -> str:
    """The card's text."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(params))
    return f"""# {name}

A {recipe.config.kind} of {weights:,} parameters, a pretrained state that tasks of the built-in suite start from.

- **Pretrained to**: {recipe.about}
- **Reached**: {reached["metric"]} {reached["value"]:.3f} on {reached["on"]}.
- **Training**: {recipe.steps} steps of AdamW, batches of {recipe.batch_size}, learning rate {recipe.learning_rate:g} with cosine decay, weight decay {recipe.weight_decay:g}.
- **Data and licence**: {recipe.licence}.
- **Made by**: `python models/backbones/pretrain.py {name}`
- **Files**: `model.safetensors` (float32), `config.json` (the network, and what it reached).
"""  # noqa: E501


def main(names: list[str]) -> None:
    """Make the named backbones, or all."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        sys.exit(f"no recipe for {unknown[0]!r}; there are: {', '.join(RECIPES)}")
    for name in names or RECIPES:
        print(f"{name}: {RECIPES[name].reached} {pretrain(name):.3f} on {RECIPES[name].on}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
