"""What chains leap with: a mixture of t distributions in coordinates that are bent the way draws are.

Before there are draws there are no bends, and a mixture of modes does it alone.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bayes_prehoc.hierarchy import mixture
from bayes_prehoc.hierarchy.bends import Bends, bends_of_draws
from bayes_prehoc.hierarchy.mixture import Mixture, mixture_of_draws

__all__ = ["Proposal", "proposal_of_draws"]

FITTED = 4000
"""Draws that a proposal is made of, at most: of more, so many that stand for them."""
FOR_COVARIANCE = 8000


class Proposal(NamedTuple):
    """A normalised density in P dimensions that is cheap to draw from; of a mixture in straight coordinates if there
    are no `bends`."""

    mixture: Mixture
    bends: Bends | None = None

    @property
    def size(self) -> int:
        """P."""
        return self.mixture.mean.shape[1]

    def draw(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, "N P"]:
        """Independent draws."""
        z = mixture.draw(rng, self.mixture, number)
        return z if self.bends is None else self.bends.bent(z)

    def log_density(self, x: Float[np.ndarray, "... P"]) -> Float[np.ndarray, "..."]:
        """Log density there."""
        if self.bends is None:
            return mixture.log_density(self.mixture, x)
        z, log_volume = self.bends.straight(x.reshape(-1, x.shape[-1]))
        return (mixture.log_density(self.mixture, z) + log_volume).reshape(x.shape[:-1])

    def covariance(self) -> Float[np.ndarray, "P P"]:
        """Of the draws that it was made of, smoothed."""
        if self.bends is None:
            return mixture.covariance(self.mixture)
        # Normal draws of the components: tails are there to be safe.
        rng = np.random.default_rng(0)
        return np.cov(self.bends.bent(mixture.draw_bulk(rng, self.mixture, FOR_COVARIANCE)).T)


def proposal_of_draws(x: Float[np.ndarray, "S P"], weight: Float[np.ndarray, " S"] | None = None) -> Proposal:
    """Bends, and components in the coordinates that they make, of draws.

    Draws may carry weights that sum to one; they then count as their effective number 1 / sum w^2.
    """
    weight = np.full(len(x), 1.0 / len(x)) if weight is None else weight
    effective = 1.0 / np.sum(weight**2)
    if len(x) > FITTED:
        ends = np.cumsum(weight) / weight.sum()
        rows, times = np.unique(np.searchsorted(ends, (np.arange(FITTED) + 0.5) / FITTED), return_counts=True)
        x, weight = x[rows], times / FITTED
    bends = bends_of_draws(x, weight, effective)
    return Proposal(mixture_of_draws(bends.straight(x)[0], weight, effective), bends)
