r"""What a prior is worth, in tasks.

The expected local-information-ratio of Neuenschwander, Weber, Schmidli & O'Hagan (2020, Biometrics 76): the information
of the prior density over that of one unit of data, expected under the prior,

    ESS = E[ -d^2 log p(mu) / d mu^2  /  i(mu) ].

The unit is a task whose curve is known exactly: its latent is Normal(mu, tau^2), so i = 1 / tau^2. Of the definitions
compared there it is the one that is predictively consistent (what N more tasks are expected to make of it is N more),
which is what somebody who plans to probe N tasks wants to know. A fit of N tasks is worth less than N by as much as its
runs leave their curves uncertain, and more than nothing by what the weak prior holds.
"""

import numpy as np
from jaxtyping import Float

from bayes_prehoc.priors.mixture import Gaussians, marginal, marginal_information

__all__ = ["equivalent_tasks"]


def equivalent_tasks(of: Gaussians, place: int, mean: Float[np.ndarray, " S"], scale: Float[np.ndarray, " S"]) -> float:
    """Effective sample size of the prior of one population mean.

    Parameters
    ----------
    of : Gaussians
        The prior of all coordinates.
    place : int
        The coordinate that is the mean mu, in the latent's own unit.
    mean, scale : arrays (S,)
        Joint draws of mu and of tau, the standard deviation of tasks around it, from the prior.
    """
    information = marginal_information(marginal(of, [place]), np.asarray(mean, np.float64)[:, None])[:, 0]
    return float(np.mean(information * np.asarray(scale, np.float64) ** 2))
