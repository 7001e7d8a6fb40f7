"""The model of `hierarchy.model`, written plainly in PyMC and sampled by nutpie; runs where these two are installed.

Reads one JSON line with the path of a .npz of the data, one of where draws go, and a seed; answers with one of seconds.
Latents are non-centred. Whatever else is left at its default.
"""

import json
import sys
import time

import numpy as np
import nutpie
import pymc as pm
import pytensor.tensor as pt

REFERENCE = 0.2
NEVER_IDENTICAL = 0.9995
NEAR = 0.05
"""Deviations below which series keep more digits than differences."""


def model_of(data) -> pm.Model:
    """Of a spread between runs, one kind of metric, no depth missing."""
    depth, log_risk, dof = data["depth"], data["log_risk"], data["dof"]  # (D, T)
    tasks = depth.shape[1]
    prior = json.loads(str(data["prior"]))
    with pm.Model() as model:
        mean = pt.stack([pm.Normal(f"mu_{name}", *prior[name]) for name in ("level", "share", "rate")])
        factor, _, _ = pm.LKJCholeskyCov(
            "chol", n=3, eta=2.0, sd_dist=pm.HalfNormal.dist(np.array(prior["tau"]), shape=3), compute_corr=True
        )
        log_onset = pm.Normal("log_onset", *prior["onset"])
        misfit = pm.TruncatedNormal("misfit", 0.0, prior["misfit"], lower=0.0, upper=1.0)
        length = pm.LogNormal("dependence", *prior["length"])
        white = pm.Normal("white", 0.0, 1.0, shape=(tasks, 3))
        latents = mean + white @ factor.T
        level, share, rate = (latents[:, i] for i in range(3))
        alpha, onset, floor = 4.0 * pm.math.sigmoid(rate), pt.exp(log_onset), pm.math.sigmoid(share)
        left = pt.exp(-alpha * (pt.log(depth + onset) - pt.log(REFERENCE + onset)))
        log_mean = level + pt.log(floor + (1.0 - floor) * left)

        k = 1.0 / (2.0 / dof + misfit**2)
        z = log_risk - log_mean
        near = pt.abs(z) < NEAR
        small, large = pt.switch(near, z, 0.0), pt.switch(near, 1.0, z)
        rise = pt.expm1(large)
        halved = pt.switch(near, 0.5 + small * (1 / 6 + small * (1 / 24 + small / 120)), (rise - large) / large**2)
        width = pt.sqrt(2.0 * halved)
        bend = pt.switch(near, 1 / 3 + small / 36 - small**2 / 1620, pt.log(rise / (large * width)) / large) / width
        margins = k * pt.log(k) - k - pt.gammaln(k) - k * halved * z**2
        scores = pt.sqrt(k) * z * width + bend / pt.sqrt(k)
        sampled = 2.0 * k / dof
        of_sampling = pt.exp(-2.0 * np.diff(np.log(depth), axis=0) / length)
        r = pt.minimum(of_sampling * pt.sqrt(sampled[1:] * sampled[:-1]), NEVER_IDENTICAL)
        before, after = scores[:-1], scores[1:]
        copula = -0.5 * pt.log(1.0 - r**2) - 0.5 * ((after - r * before) ** 2 / (1.0 - r**2) - after**2)
        pm.Potential("estimates", margins.sum() + copula.sum())
    return model


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        compiled = nutpie.compile_pymc_model(model_of(np.load(request["data"])))
        nutpie.sample(compiled, draws=10, tune=10, chains=2, seed=0, progress_bar=False)
        start = time.perf_counter()
        trace = nutpie.sample(compiled, seed=request["seed"], progress_bar=False)
        seconds = time.perf_counter() - start
        posterior = trace.posterior
        drawn = {name: posterior[name].values for name in ("mu_level", "mu_share", "mu_rate", "log_onset")}
        drawn |= {name: posterior[name].values for name in ("misfit", "dependence")}
        drawn |= {"tau": posterior["chol_stds"].values, "corr": posterior["chol_corr"].values}
        diverging = int(trace.sample_stats["diverging"].values.sum())
        np.savez(request["draws"], **drawn)
        print(json.dumps({"seconds": seconds, "divergences": diverging}), flush=True)


if __name__ == "__main__":
    main()
