"""The model of `hierarchy.model`, written plainly in PyMC and sampled by nutpie; runs where these two are installed.

Reads JSON lines with the path of a .npz of the data, and answers each with one: where `points` is a .npz of parameters,
the log likelihoods there; where `draws` says where they go, and `seed` how they are drawn, how many seconds sampling
took. Latents are non-centred. Whatever else is left at its default.
"""

import json
import sys
import time

import numpy as np
import nutpie
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.replace import graph_replace
from scipy import special

REFERENCE = 0.2
SMALLEST = 1e-20
SHIFT = 6
NEAR = 0.01
"""Deviations below which series keep more digits than differences."""


def inverse_shape(variance):
    """1 / a of a gamma variable whose logarithm has about this variance, 1 / a + 1 / a^2."""
    return 2.0 * variance / (1.0 + pt.sqrt(1.0 + 4.0 * variance))


def mean_logarithm(a):
    """digamma(a) - log a, by recurrence and Stirling's series: of digamma's derivative Numba makes calls to Python."""
    at = 1.0 / (a + SHIFT)
    series = -at * (1.0 / 2.0 + at * (1.0 / 12.0 - at**2 * (1.0 / 120.0 - at**2 / 252.0)))
    return series + pt.log1p(SHIFT / a) - sum(1.0 / (a + i) for i in range(SHIFT))


def normaliser(a):
    return a * pt.log(a) - a - pt.gammaln(a)


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
        drift = pm.Exponential("drift", 1.0 / prior["drift"])
        lasting = pm.Beta("lasting", prior["lasting"], 1.0)
        white = pm.Normal("white", 0.0, 1.0, shape=(tasks, 3))
        latents = mean + white @ factor.T
        level, share, rate = (latents[:, i] for i in range(3))
        alpha, onset, floor = 4.0 * pm.math.sigmoid(rate), pt.exp(log_onset), pm.math.sigmoid(share)
        left = pt.exp(-alpha * (pt.log(depth + onset) - pt.log(REFERENCE + onset)))
        log_mean = level + pt.log(floor + (1.0 - floor) * left)

        # Moments of sampling error times a log-normal factor, and the F distribution that has them.
        sampling = np.sqrt(2.0 / dof + 4.0 / dof**2)
        walk = drift * np.sqrt(np.abs(np.log(depth)))
        factor = misfit**2 + walk**2
        total = sampling**2 + factor
        a = 1.0 / inverse_shape((total + sampling**4 / total) / 2)
        b = 1.0 / inverse_shape(pt.maximum(factor * (2.0 * sampling**2 + factor) / total / 2, SMALLEST))
        shift = special.digamma(dof / 2) - np.log(dof / 2) - mean_logarithm(a) + mean_logarithm(b)
        z = log_risk - log_mean - shift
        p = a / (a + b)
        tilted = pt.log1p(p * pt.expm1(z)) - p * z
        margins = normaliser(a) + normaliser(b) - normaliser(a + b) - (a + b) * tilted
        near = pt.abs(z) < NEAR
        information, far = a * b / (a + b), pt.switch(near, NEAR, z)
        root = pt.sqrt(2.0 * pt.switch(near, z**2 / 2 + (1 - 2 * p) * z**3 / 6, tilted / (p * (1 - p))))
        root = pt.switch(z < 0, -root, root)
        slope = pt.expm1(far) / (1 + p * pt.expm1(far))
        far_root = pt.switch(near, 1.0, root)
        bend = pt.switch(near, (1 - 2 * p) / 3 + z * (1 - 13 * p * (1 - p)) / 36, pt.log(slope / far_root) / far_root)
        scores = pt.sqrt(information) * root + bend / pt.sqrt(information)
        # All tasks have the same depths and runs, so one matrix serves all.
        at = np.log(depth[:, 0])
        distance = np.abs(at)
        between = np.minimum(distance[:, None], distance) / np.maximum(distance[:, None], distance).clip(1e-300)
        s, w = sampling[:, 0], walk[:, 0]
        matrix = lasting * np.outer(s, s) * pt.exp(-2.0 * np.abs(at[:, None] - at) / length)
        matrix += pt.outer(w, w) * np.sqrt(between) + pt.diag(misfit**2 + (1.0 - lasting) * s**2)
        width = pt.sqrt(total[:, 0])
        factor = pt.linalg.cholesky(matrix / pt.outer(width, width))
        independent = pt.linalg.solve_triangular(factor, scores, lower=True)
        copula = -tasks * pt.log(pt.diag(factor)).sum() - 0.5 * (independent**2).sum() + 0.5 * (scores**2).sum()
        pm.Potential("estimates", margins.sum() + copula)
    return model


def log_likelihoods(model: pm.Model, points) -> list[float]:
    """At parameters by name, arrays (N, ...)."""
    given = [model[name] for name in points]
    values = [variable.type(name) for variable, name in zip(given, points, strict=True)]
    compute = pytensor.function(values, graph_replace(model["estimates"], dict(zip(given, values, strict=True))))
    return [float(compute(*row)) for row in zip(*points.values(), strict=True)]


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "points" in request:
            with np.load(request["points"]) as points:
                found = log_likelihoods(model_of(np.load(request["data"])), dict(points))
            print(json.dumps({"log_likelihoods": found}), flush=True)
            continue
        compiled = nutpie.compile_pymc_model(model_of(np.load(request["data"])))
        nutpie.sample(compiled, draws=10, tune=10, chains=2, seed=0, progress_bar=False)
        start = time.perf_counter()
        trace = nutpie.sample(compiled, seed=request["seed"], progress_bar=False)
        seconds = time.perf_counter() - start
        posterior = trace.posterior
        drawn = {name: posterior[name].values for name in ("mu_level", "mu_share", "mu_rate", "log_onset")}
        drawn |= {name: posterior[name].values for name in ("misfit", "dependence", "drift", "lasting")}
        drawn |= {"tau": posterior["chol_stds"].values, "corr": posterior["chol_corr"].values}
        diverging = int(trace.sample_stats["diverging"].values.sum())
        np.savez(request["draws"], **drawn)
        print(json.dumps({"seconds": seconds, "divergences": diverging}), flush=True)


if __name__ == "__main__":
    main()
