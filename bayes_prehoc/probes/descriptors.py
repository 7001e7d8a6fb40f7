"""What is known of a task before a run: static descriptors X_s, at no training cost.

They describe the data (size, classes, entropy of the labels, length), the state that runs start from (loss before any
step, norm and noise scale of its gradient) and what the frozen features tell about the labels (LogME). All are
computed on some of the training examples, with evaluation's network, averaged over a few draws of what is fresh.

Sources: gradient noise scale tr(Sigma) / |G|^2 from two batch sizes, McCandlish et al. 2018 (arXiv 1812.06162); LogME,
You et al. 2021 (arXiv 2102.11005).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayes_prehoc.probes.engine import Program, Sets, run_key
from bayes_prehoc.probes.objectives import judge

__all__ = ["describe", "log_evidence_of_features"]

EXAMPLES = 128
"""Of training, at most."""
DRAWS = 4
"""Of what runs draw afresh."""
FIRST_DRAW = 2**32 - 1 - DRAWS
"""Seeds of the draws: the last ones that a run may have."""


def describe(
    program: Program,
    start,
    frozen,
    sets: Sets,
    features: tuple[np.ndarray, np.ndarray] | None = None,
    gradient: bool = True,
) -> dict[str, float]:
    """Descriptors by name.

    Parameters
    ----------
    program, start, frozen, sets
        As `engine.run` takes them.
    features : float array (n, F) and array (n,), optional
        What a new head would read, of some training examples, and their targets.
    gradient : bool
        Look at the loss and its gradient at the beginning, too, which must be compiled.

    Returns
    -------
    dict
        train_size; length (mean positions of an example); classes and label_entropy (nats) for classes;
        initial_loss, gradient_norm, gradient_noise_scale (examples; infinite where noise is all there is) at the
        beginning; logme (nats an example) where there are features.
    """
    target = np.asarray(sets.train_y)
    found = {"train_size": float(len(target)), "length": float(np.mean(sets.train_length))}
    if target.ndim == 1 and np.issubdtype(target.dtype, np.integer):
        share = np.bincount(target) / len(target)
        share = share[share > 0]
        found |= {"classes": float(program.classes), "label_entropy": float(-np.sum(share * np.log(share)))}
    if features is not None:
        found["logme"] = _logme(*features)
    if not gradient:
        return found

    batches = max(1, min(EXAMPLES, len(target)) // program.batch_size)
    losses, small, large = (np.asarray(part, np.float64) for part in _at_start(program, batches, start, frozen, sets))
    found |= {"initial_loss": float(losses.mean()), "gradient_norm": float(np.sqrt(large.mean()))}
    if batches > 1:
        each, together = float(program.batch_size), float(program.batch_size * batches)
        norm = (together * large.mean() - each * small.mean()) / (together - each)
        noise = (small.mean() - large.mean()) / (1.0 / each - 1.0 / together)
        found["gradient_noise_scale"] = float(noise / norm) if norm > 0.0 else np.inf
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _at_start(program: Program, batches: int, start, frozen, sets: Sets):
    """For each draw (DRAWS,): loss, mean squared norm of a batch's gradient, squared norm of that of all batches."""
    learner, size = program.learner, program.batch_size

    def loss(trained, x, y):
        return judge(learner.logits(trained, frozen, x), y).loss.mean()

    def one(seed):
        order_key, fresh_key, _ = jax.random.split(run_key(seed), 3)
        trained = learner.start(start, fresh_key)
        rows = jax.random.permutation(order_key, sets.train_y.shape[0])[: batches * size].reshape(batches, size)

        def add(total, some):
            x, y = jax.tree.map(lambda a: a[some], (sets.train_x, sets.train_y))
            value, gradient = jax.value_and_grad(loss)(trained, x, y)
            return jax.tree.map(jnp.add, total, gradient), (value, _squared_norm(gradient))

        total, (values, norms) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, trained), rows)
        return values.mean(), norms.mean(), _squared_norm(total) / batches**2

    return jax.lax.map(one, jnp.uint32(FIRST_DRAW) + jnp.arange(DRAWS, dtype=jnp.uint32))


def _squared_norm(tree) -> Float[Array, ""]:
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def _logme(features: np.ndarray, target: np.ndarray) -> float:
    """Mean over the classes, each against the others, or of the number."""
    if np.issubdtype(target.dtype, np.integer):
        columns = [(target == c).astype(np.float64) for c in np.unique(target)]
    else:
        columns = [target.astype(np.float64)]
    return float(np.mean([log_evidence_of_features(features, y) for y in columns]))


def log_evidence_of_features(features: Float[np.ndarray, "n F"], y: Float[np.ndarray, " n"]) -> float:
    """Largest log evidence, an example, of y = features w + noise over the precisions of w and of the noise.

    w ~ Normal(0, 1 / a) and noise ~ Normal(0, 1 / b), a and b by fixed-point iteration (MacKay 1992).
    """
    n, size = features.shape
    left, singular, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)
    power, along = singular**2, (left.T @ y) ** 2
    outside = max(float(y @ y - along.sum()), 0.0)
    a = b = 1.0
    for _ in range(1000):
        ratio = a / b
        told = np.sum(power / (power + ratio))
        weight = np.sum(power * along / (power + ratio) ** 2)
        residual = outside + np.sum(along * (ratio / (power + ratio)) ** 2)
        a, b = told / max(weight, 1e-12), (n - told) / max(residual, 1e-12)
        if abs(a / b - ratio) <= 1e-9 * ratio:
            break
    # Directions that features do not span have precision a before and after.
    log_det = np.sum(np.log(a + b * power)) + (size - len(power)) * np.log(a)
    fit = b * residual + a * weight
    return float(0.5 * (size * np.log(a) + n * np.log(b / (2.0 * np.pi)) - log_det - fit) / n)
