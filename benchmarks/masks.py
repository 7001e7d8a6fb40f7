"""How long do the dropout masks of a step take, drawn by JAX and by the package?

The masks are those of LoRA on MiniLM with batches of 16 texts of 32 tokens (one of each shape in a layer), and of a
head on 32 features of 384 for 32 seeds at once. Medians of rounds that alternate between the two.

    python benchmarks/masks.py
"""

import argparse
import time

import jax
import numpy as np
from _table import Figure, machine, write_figures

from bayes_prehoc.probes.backbones.masks import bernoulli

SHAPES = {
    "hidden states": (1, (16, 32, 384)),
    "attention weights": (1, (16, 12, 32, 32)),
    "features of a head, 32 seeds": (32, (32, 384)),
}
KEPT = 0.9
ROUNDS = {"smoke": 5, "full": 200}
FASTER = 2.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--size", choices=ROUNDS, default="full")
    parser.add_argument("--json", metavar="PATH")
    given = parser.parse_args()
    print(machine())
    figures = []
    for name, (seeds, shape) in SHAPES.items():
        keys = jax.random.split(jax.random.key(0), seeds)
        ways = [_masks(draw, shape) for draw in (jax.random.bernoulli, bernoulli)]
        seconds = np.array([[_seconds(way, keys) for way in ways] for _ in range(ROUNDS[given.size] + 1)])[1:]
        theirs, own = np.median(seconds, axis=0)
        ratio = float(np.median(seconds[:, 0] / seconds[:, 1]))
        figures.append(Figure(f"masks of {name}: times faster", ratio, "1", f"at least {FASTER:g}", ratio >= FASTER))
        print(f"{figures[-1].name} = {ratio:.1f} ({theirs * 1e6:.0f} us by JAX, {own * 1e6:.0f} us)")
    write_figures(given.json, figures)


def _masks(draw, shape):
    return jax.jit(jax.vmap(lambda key: draw(key, KEPT, shape)))


def _seconds(way, keys):
    start = time.perf_counter()
    jax.block_until_ready(way(keys))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
