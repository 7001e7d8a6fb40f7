"""Whether a card's mixture stands for the draws that it was made of.

Two distances of Kolmogorov and Smirnov, the largest difference of two distribution functions: of each coordinate alone,
between the draws and the mixture, the worst one; and of all coordinates together, between the log densities that the
mixture gives the draws and those that it gives draws of its own. The second is near nothing only if the draws lie as
deep in the mixture as they would if they were its own, whatever the marginals say. Each may be `MOST_DISTANCE`: no
probability is off by more than that. Draws with 400 effective ones differ from their own distribution by up to 0.07 by
chance.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from bayes_prehoc.priors.mixture import Gaussians, log_density, marginal_cdf, sample

__all__ = ["MOST_DISTANCE", "Diagnostic", "compare_with_draws"]

MOST_DISTANCE = 0.1
OWN_DRAWS = 4000


class Diagnostic(NamedTuple):
    """A check of a fit or of a card.

    Attributes
    ----------
    name : str
    passed : bool
    value, threshold : float
    worst : str
        The quantity with that value.
    """

    name: str
    passed: bool
    value: float
    threshold: float
    worst: str


def compare_with_draws(
    of: Gaussians, draws: Float[np.ndarray, "S P"], labels: tuple[str, ...]
) -> tuple[Diagnostic, Diagnostic]:
    """The two distances, as checks `marginal_distance` and `joint_distance`."""
    number = len(draws)
    at = np.sort(marginal_cdf(of, draws), axis=0)
    steps = np.arange(number + 1)[:, None] / number
    distances = np.maximum(at - steps[:-1], steps[1:] - at).max(axis=0)
    worst = int(np.argmax(distances))
    own = sample(np.random.default_rng(0), of, OWN_DRAWS)
    joint = float(stats.ks_2samp(log_density(of, draws), log_density(of, own)).statistic)
    found = (("marginal_distance", float(distances[worst]), labels[worst]), ("joint_distance", joint, "log density"))
    return tuple(Diagnostic(name, value <= MOST_DISTANCE, value, MOST_DISTANCE, at) for name, value, at in found)
