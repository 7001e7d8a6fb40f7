"""Data of the built-in tasks: three disjoint sets drawn from a source, as arrays.

A source gives distinct examples; `load_data` shuffles them by the task's data seed, cuts the training, probe
and outcome sets, standardises measured features by the training set, and replaces the share of labels that the
task wants noisy. Sources that are files come with scikit-learn (the extra `suite`); the others are generated.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bayes_prehoc.errors import InputError
from bayes_prehoc.probes.spec import ProbeSpec

__all__ = ["SOURCES", "Source", "TaskArrays", "addition", "load_data", "modular_addition", "tabular"]

MODULUS = 97


class TaskArrays(NamedTuple):
    """The sets of a task: features or tokens, and classes or answer tokens.

    Attributes
    ----------
    train_x, probe_x, outcome_x : float32 array (n, inputs) or int32 array (n, context)
    train_y, probe_y, outcome_y : int32 array (n,) or (n, answer)
    """

    train_x: np.ndarray
    train_y: np.ndarray
    probe_x: np.ndarray
    probe_y: np.ndarray
    outcome_x: np.ndarray
    outcome_y: np.ndarray


def tabular(name: str, classes: range | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A scikit-learn data set, or some of its classes, renumbered from 0.

    Returns
    -------
    float32 array (n, features), int32 array (n,)
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise InputError(
            "scikit-learn is not installed", f"data {name!r}", 'Install it: pip install "bayes-prehoc[suite]"'
        ) from None
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if classes is not None:
        there = np.isin(y, classes)
        x, y = x[there], y[there] - classes[0]
    return x.astype(np.float32), y.astype(np.int32)


def addition(digits: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Distinct sums a + b of numbers with `digits` digits at most, at least one of them with exactly that many.

    Tokens are the digits of a and b, padded to three, and of all but the last of the answer's four, least
    significant first; 10 is "+", 11 is "=".

    Returns
    -------
    int32 array (count, 11) of tokens, int32 array (count, 4) of answer digits
    """
    largest, smaller = 10**digits, 10 ** (digits - 1)
    pairs = rng.choice(largest**2, size=min(largest**2, 2 * count + 100), replace=False)
    a, b = np.divmod(pairs, largest)
    a, b = (v[np.maximum(a, b) >= smaller][:count] for v in (a, b))
    places = 10 ** np.arange(4)
    answer = (a + b)[:, None] // places % 10
    plus, equals = np.full((len(a), 1), 10), np.full((len(a), 1), 11)
    tokens = [a[:, None] // places[:3] % 10, plus, b[:, None] // places[:3] % 10, equals, answer[:, :-1]]
    return np.concatenate(tokens, axis=1).astype(np.int32), answer.astype(np.int32)


def modular_addition() -> tuple[np.ndarray, np.ndarray]:
    """All pairs (a, b) below the modulus p with (a + b) mod p; the token p is "=".

    Returns
    -------
    int32 array (p * p, 3), int32 array (p * p, 1)
    """
    a, b = np.divmod(np.arange(MODULUS**2), MODULUS)
    tokens = np.stack([a, b, np.full_like(a, MODULUS)], axis=1)
    return tokens.astype(np.int32), ((a + b) % MODULUS)[:, None].astype(np.int32)


class Source(NamedTuple):
    """Where examples come from.

    Attributes
    ----------
    draw : function of (how many are needed, generator) to (x, y)
    outputs : int
        Classes, or tokens of the vocabulary.
    standardise : bool
        Features are measurements on scales of their own.
    """

    draw: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
    outputs: int
    standardise: bool = False


SOURCES = {
    "digits-low": Source(lambda count, rng: _scaled(*tabular("digits", range(5))), 5),
    "digits-high": Source(lambda count, rng: _scaled(*tabular("digits", range(5, 10))), 5),
    "cancer": Source(lambda count, rng: tabular("breast_cancer"), 2, True),
    "wine": Source(lambda count, rng: tabular("wine"), 3, True),
    "addition-2": Source(lambda count, rng: addition(2, count, rng), 12),
    "addition-3": Source(lambda count, rng: addition(3, count, rng), 12),
    "modular-addition": Source(lambda count, rng: modular_addition(), MODULUS + 1),
}


def load_data(spec: ProbeSpec) -> TaskArrays:
    """The three sets of a task.

    Raises
    ------
    InputError
        If the source is unknown, has too few examples, or needs scikit-learn and it is not there.
    """
    if spec.data not in SOURCES:
        raise InputError(
            f"unknown data source {spec.data!r}", f"task {spec.name!r}", f"Use one of {', '.join(SOURCES)}."
        )
    source = SOURCES[spec.data]
    sizes = spec.train_size, spec.probe_size, spec.outcome_size
    draw, noise = np.random.default_rng([spec.data_seed, 0]), np.random.default_rng([spec.data_seed, 1])
    x, y = source.draw(sum(sizes), draw)
    if len(x) < sum(sizes):
        raise InputError(
            f"{spec.data} has {len(x)} examples, the three sets need {sum(sizes)}",
            f"task {spec.name!r}",
            "Make train_size, probe_size or outcome_size smaller.",
        )
    # The probe set is cut last: a twin with a smaller one has the same training and outcome sets.
    train, outcome, probe = np.split(
        draw.permutation(len(x))[: sum(sizes)], np.cumsum([spec.train_size, spec.outcome_size])
    )
    if source.standardise:
        known = x[train]
        x = ((x - known.mean(axis=0)) / np.maximum(known.std(axis=0), 1e-6)).astype(np.float32)
    (train_x, train_y), (probe_x, probe_y), (outcome_x, outcome_y) = ((x[r], y[r]) for r in (train, probe, outcome))
    train_y = _flip(train_y, spec.label_noise, source.outputs, noise)
    probe_y = _flip(probe_y, spec.probe_label_noise, source.outputs, noise)
    return TaskArrays(train_x, train_y, probe_x, probe_y, outcome_x, outcome_y)


def _scaled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x / np.float32(16), y


def _flip(y: np.ndarray, share: float, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Replace exactly this share of the labels by another class, each other class equally likely."""
    wrong = rng.permutation(len(y))[: round(share * len(y))]
    y = y.copy()
    y[wrong] = (y[wrong] + rng.integers(1, classes, size=y[wrong].shape)) % classes
    return y
