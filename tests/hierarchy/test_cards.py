"""The card of a fit: the same hyperparameters, in the coordinates that the sampler moves in, and no names of tasks."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from bayes_prehoc.cli import main
from bayes_prehoc.errors import InputError
from bayes_prehoc.hierarchy.basis import Basis, basis_of
from bayes_prehoc.hierarchy.cards import card_of, sites_of
from bayes_prehoc.hierarchy.conflict import Threshold
from bayes_prehoc.hierarchy.data import model_data
from bayes_prehoc.hierarchy.evidence import Evidence
from bayes_prehoc.hierarchy.mixing import CardWeight
from bayes_prehoc.hierarchy.target import Target, values_at
from bayes_prehoc.priors import load_card


@pytest.fixture(scope="module")
def card(fitted):
    """Of six tasks."""
    posterior, _ = fitted
    return card_of(posterior, "six", families=("made-up",), licence="MIT")


def test_it_is_of_the_same_hyperparameters(card, fitted):
    posterior, _ = fitted
    group = posterior.draws["posterior"]
    summary = card.summary()
    for label, draws in (
        ("mu_share", group["mu_share"]),
        ("mu_level[accuracy]", group["mu_level"].sel(metric_kind="accuracy")),
        ("tau[rate]", group["tau"].sel(latent="rate")),
        ("corr[rate, share]", group["corr"].sel(latent="rate", latent_="share")),
        ("misfit", group["misfit"]),
    ):
        quantiles = summary.loc[label, ["lower", "median", "upper"]].to_numpy()
        below = [np.mean(draws.values <= quantile) for quantile in quantiles]
        assert below == pytest.approx([0.05, 0.5, 0.95], abs=0.07), label


def test_its_coordinates_are_the_samplers(card, fitted):
    """What the sampler makes of a point is what the card makes of it, site by site."""
    posterior, _ = fitted
    target = Target(posterior.hyperprior, posterior.proxy, False)
    data = model_data(posterior.estimates)
    y = card.draws[np.linspace(0, len(card.draws) - 1, 40).astype(int)]
    # The sampler's points hold the sites in the order of their names.
    order = sorted(card.places, key=lambda name: "corr_chol" if name == "corr" else name)
    points = np.concatenate([y[:, card.places[name]] for name in order], axis=1)
    by_sampler = values_at(target, jnp.asarray(points, jnp.float32), data).sites
    for name, values in card.values(y).items():
        if name == "corr":
            factor = np.asarray(by_sampler["corr_chol"], np.float64)
            assert factor @ np.swapaxes(factor, 1, 2) == pytest.approx(values, abs=2e-5)
        else:
            assert np.asarray(by_sampler[name]) == pytest.approx(values, rel=2e-4, abs=1e-6), name


def test_the_weak_prior_there_is_the_samplers_too(card, fitted):
    """The sampler's log prior is that of the card's weak prior, up to a constant and to what correlations differ by."""
    posterior, _ = fitted
    target = Target(posterior.hyperprior, posterior.proxy, False)
    data = model_data(posterior.estimates)
    order = sorted(card.places, key=lambda name: "corr_chol" if name == "corr" else name)
    y = card.weak.mean + card.weak.scale * np.random.default_rng(0).normal(size=(40, len(card.labels)))
    y[:, card.places["corr"]] = 0.0
    points = np.concatenate([y[:, card.places[name]] for name in order], axis=1)
    log_prior = np.asarray(values_at(target, jnp.asarray(points, jnp.float32), data).log_prior)
    off = log_prior + 0.5 * (((y - card.weak.mean) / card.weak.scale) ** 2).sum(axis=1)
    assert np.ptp(off) < 2e-3


def test_it_says_what_it_is_made_of(card, fitted, tmp_path):
    posterior, _ = fitted
    about = card.provenance
    assert (about.tasks, about.runs, about.fitted_under, about.licence) == (6, 6 * 64, "weak prior", "MIT")
    assert card.scope.proxy == "run_to_run" and card.scope.metric_kinds == ("accuracy",)
    assert {check.name for check in card.diagnostics} >= {"r_hat", "ess_bulk", "quadrature", "joint_distance"}
    assert card.seen(posterior.estimates.tasks[2].hashes)
    # The level of six tasks with 64 runs each is known; of their shares such runs tell less.
    assert 4.0 < card.equivalent_tasks["mu_level[accuracy]"] < 9.0
    assert 0.2 < card.equivalent_tasks["mu_share"] < card.equivalent_tasks["mu_level[accuracy]"]
    with pytest.raises(InputError, match="fitted on runs of 't0'"):
        card.for_estimates(posterior.estimates, 0.2)
    card.save(tmp_path / "card")
    assert load_card(tmp_path / "card").labels == card.labels


def test_no_name_of_a_task_unless_asked_for(fitted, tmp_path):
    posterior, _ = fitted
    secret = dataclasses.replace(
        posterior,
        estimates=dataclasses.replace(
            posterior.estimates,
            tasks=tuple(dataclasses.replace(t, task=f"secret {i}") for i, t in enumerate(posterior.estimates)),
        ),
        gate=tuple(check._replace(worst="share secret 3") for check in posterior.gate),
    )
    card_of(secret, "six").save(tmp_path / "card")
    assert not any(b"secret" in file.read_bytes() for file in (tmp_path / "card").iterdir())
    card_of(secret, "six", task_names=True).save(tmp_path / "named")
    assert json.loads((tmp_path / "named" / "prior.json").read_text())["provenance"]["task_names"][3] == "secret 3"


def test_what_its_own_prior_has_seen_counts(card, fitted, make):
    """A fit under a card makes a card that has seen both, and says what it was fitted under."""
    posterior, _ = fitted
    before = make.card(Basis(("accuracy",)), first="earlier")
    evidence, threshold = Evidence(0.0, 0.1), Threshold(0.2, 0.1, 0.3, 40)
    weight = CardWeight("before", 0.1, 0.05, 0.2, evidence, evidence, threshold, before.fingerprints)
    made = card_of(dataclasses.replace(posterior, card=weight, prior=weight.words), "both")
    assert made.seen(["earlier", "0000", "later"]) == ["earlier", "0000"]
    assert len(made.fingerprints) == len(card.fingerprints) + 1
    assert made.provenance.fitted_under == "card before and the weak prior, w = 0.1"


def test_of_remaining_risk_too(with_noise):
    posterior, _ = with_noise
    card = card_of(posterior, "eight")
    assert "drift" not in card.places and card.sites[-1].transform.kind == "power"
    assert np.all(card.values(card.sample(500))["dependence"] > 0.0)


def test_what_is_no_prior(fitted, not_converged):
    posterior, _ = fitted
    with pytest.raises(InputError, match="did not pass its gate"):
        card_of(not_converged, "six")
    # What an update has of the hyperparameters is one value per task, and only of those that tasks share.
    tree = posterior.draws.copy()
    own = tree["posterior"].to_dataset().drop_vars(["mu_level", "tau", "corr"])
    tree["posterior"] = xr.DataTree(own)
    with pytest.raises(InputError, match="is an update"):
        card_of(dataclasses.replace(posterior, draws=tree), "six")


def test_every_hyperparameter_has_a_place(fitted):
    posterior, _ = fitted
    sites, weak = sites_of(posterior.hyperprior, posterior.proxy, basis_of(posterior.estimates))
    group = posterior.draws["posterior"]
    there = {name for name in group.data_vars if "task" not in group[name].dims}
    assert {site.name for site in sites} == there
    assert len(weak.mean) == sum(len(site.labels) for site in sites)


def test_the_command_makes_the_same_card(card, fitted, tmp_path, monkeypatch, capsys):
    posterior, _ = fitted
    posterior.save(tmp_path / "post.nc")
    monkeypatch.chdir(tmp_path)
    figures = [{"name": "coverage", "value": 0.91, "unit": "share", "target": "0.85 to 0.95", "met": True}]
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    command = (
        "prior export post.nc --out made --name six --licence MIT --families made-up --calibration figures.json --json"
    )
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 0
    document = json.loads(capsys.readouterr().out)
    made = load_card("made")
    assert made.mixture.mean == pytest.approx(card.mixture.mean)
    assert dataclasses.asdict(made.provenance) == dataclasses.asdict(card.provenance) == document["provenance"]
    assert document["equivalent_tasks"] == pytest.approx(card.equivalent_tasks)
    assert document["calibration"] == figures and made.calibration[0].met
    (tmp_path / "figures.json").write_text("[1]")
    with pytest.raises(SystemExit) as ended:
        main(command.replace("made ", "other ").split())
    assert ended.value.code == 2 and "no list of figures" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
