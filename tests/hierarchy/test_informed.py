"""A card as the prior of a fit: its density in place of the weak prior's, and what it says in another model's terms."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from bayes_prehoc import InputError
from bayes_prehoc.hierarchy.basis import Basis
from bayes_prehoc.hierarchy.cards import card_of, sites_of, wider, without_covariates
from bayes_prehoc.hierarchy.evaluator import Evaluator
from bayes_prehoc.hierarchy.informed import card_for, card_in_terms_of, informed_by
from bayes_prehoc.hierarchy.model import weak_prior
from bayes_prehoc.hierarchy.tilt import tilts
from bayes_prehoc.priors import Provenance, Scope, combine, make_card, mixture
from bayes_prehoc.priors.heterogeneity import HETEROGENEITY, VALUES, Predictive, of_new_project
from bayes_prehoc.priors.transforms import constrained
from bayes_prehoc.risk.estimates import RiskEstimates

PROXY = "run_to_run"
WEAK = weak_prior(PROXY)
ONE = Basis(("accuracy",))
X_ORDER = (
    "corr[share, level]", "corr[rate, level]", "corr[rate, share]", "dependence", "drift", "lasting", "log_onset",
    "misfit", "mu_level[accuracy]", "mu_rate", "mu_share", "tau[level]", "tau[share]", "tau[rate]",
)  # fmt: skip


def tasks_of(make, *families):
    """Estimates of tasks of these families."""
    _, _, estimates = make.simulated(tasks=len(families))
    return dataclasses.replace(
        estimates,
        tasks=tuple(dataclasses.replace(t, family=own) for t, own in zip(estimates, families, strict=True)),
    )


def log_density_of_new_project(card, values):
    """Of values by label: the card's with heterogeneity, in coordinates in which the weak prior is standard."""
    y = np.stack([values[label] for label in X_ORDER], axis=1)
    at = [card.labels.index(label) for label in X_ORDER]
    mean, scale, own = card.weak.mean[at], card.weak.scale[at], card.marginal(X_ORDER)
    standard = own._replace(mean=(own.mean - mean) / scale, covariance=own.covariance / np.outer(scale, scale))
    return mixture.log_density(of_new_project(standard), (y - mean) / scale) - np.log(scale).sum()


def alike():
    """Mean correlation of two projects."""
    h = stats.halfcauchy.ppf((np.arange(VALUES) + 0.5) / VALUES, scale=HETEROGENEITY)
    return np.mean(1.0 / (1.0 + h**2))


def test_the_tilt_is_the_cards_density_over_the_weak_priors(made_up_card):
    """Against the product of distributions by SciPy; partial correlations by their Beta's quantile."""
    informed = informed_by(made_up_card, WEAK, PROXY, ONE)
    x = informed.draw(np.random.default_rng(1), 50)
    values = dict(zip(X_ORDER, x.T, strict=True))
    weak = 0.0
    for label, own in values.items():
        if label.startswith("corr"):
            b = 2.0 if label == "corr[rate, share]" else 2.5
            r = special.erf(own / np.sqrt(2.0 * b))
            slope = stats.norm.pdf(own, scale=np.sqrt(b)) * 2.0
            weak += stats.beta(b, b, loc=-1.0, scale=2.0).logpdf(r) + np.log(slope)
        else:
            mean, scale = {
                "dependence": WEAK.length, "log_onset": WEAK.onset, "mu_level[accuracy]": WEAK.level,
                "mu_rate": WEAK.rate, "mu_share": WEAK.share,
            }.get(label, (0.0, 1.0))  # fmt: skip
            weak += stats.norm(mean, scale).logpdf(own)
    card = log_density_of_new_project(made_up_card, values)
    np.testing.assert_allclose(informed.tilt.log_ratio(x), card - weak, rtol=1e-9, atol=1e-9)
    single, slopes = tilts(informed.tilt, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(single, card - weak, rtol=1e-3, atol=2e-3)
    step = 1e-4 * np.eye(x.shape[1])
    ahead, behind = (informed.tilt.log_ratio(x[0] + sign * step) for sign in (1.0, -1.0))
    np.testing.assert_allclose(slopes[0], (ahead - behind) / 2e-4, rtol=2e-3, atol=2e-3)


def test_samplers_see_it(made_up_card, placed):
    """In densities and in their gradients."""
    evaluator, _, (arguments, _, found, _) = placed
    informed = informed_by(made_up_card, WEAK, PROXY, ONE)
    points = found.x[:4]
    with Evaluator(evaluator.target, informed.tilt) as tilted:
        off = tilted.densities(points, arguments).total - evaluator.densities(points, arguments).total
        np.testing.assert_allclose(off, informed.tilt.log_ratio(points), rtol=1e-4, atol=1e-4)
        values, slopes = (a - b for a, b in zip(tilted.gradients(points, arguments),
                                                evaluator.gradients(points, arguments), strict=True))  # fmt: skip
    np.testing.assert_allclose(values, informed.tilt.log_ratio(points), rtol=1e-3, atol=5e-3)
    np.testing.assert_allclose(slopes, tilts(informed.tilt, jnp.asarray(points, jnp.float32))[1], rtol=1e-2, atol=1e-2)


def test_what_either_lacks(make):
    """Coordinates that the model lacks are integrated out; those that the card lacks keep the weak prior."""
    card = make.card(Basis(("accuracy", "loss")))
    informed = informed_by(card, WEAK, PROXY, Basis(("loss", "other")))
    assert len(informed.weak.mean) == 15 and len(informed.places) == 14
    x = informed.draw(np.random.default_rng(0), 20_000)
    # mu_level of the kinds come at the place of the only one before.
    assert x[:, 8].mean() == pytest.approx(WEAK.level[0] + 0.4 * alike() * WEAK.level[1], abs=0.06)
    assert (x[:, 9].mean(), x[:, 9].std()) == (
        pytest.approx(WEAK.level[0], abs=0.06),
        pytest.approx(WEAK.level[1], rel=0.03),
    )
    mean, covariance = informed.moments()
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.15)
    other = dataclasses.replace(card, sites=tuple(
        dataclasses.replace(site, labels=tuple(f"their {label}" for label in site.labels)) for site in card.sites
    ), population={})  # fmt: skip
    with pytest.raises(InputError, match="none of this model's"):
        informed_by(other, WEAK, PROXY, ONE)


def test_families_that_do_not_occur_are_integrated_out(make):
    basis = Basis(("accuracy",), ("a", "b", ""))
    card = make.card(Basis(("accuracy",), ("b", "c", "")), family_onset=np.array([1.0, -1.0, 0.5]))
    informed = informed_by(card, WEAK, PROXY, basis)
    draws = informed.draw(np.random.default_rng(0), 5000)
    sites = sorted(sites_of(WEAK, PROXY, basis)[0], key=lambda site: "corr_chol" if site.name == "corr" else site.name)
    labels = [label for site in sites for label in site.labels]
    onset = {own: draws[:, labels.index(f"family_onset[{own}]")] for own in ("a", "b", "")}
    assert onset["b"].mean() == pytest.approx(alike(), abs=0.05)
    # Nobody knows a; and tasks that name no family are of another one in each project.
    for own in ("a", ""):
        assert abs(onset[own].mean()) < 0.06 and onset[own].std() == pytest.approx(1.0, abs=0.04)


def test_a_combination_allows_for_how_projects_differ_already(made_up_card):
    """It is the prior of a new project as it is."""
    both = dataclasses.replace(
        made_up_card, provenance=dataclasses.replace(made_up_card.provenance, projects=2, tasks=18, runs=180)
    )
    counts = [len(informed_by(card, WEAK, PROXY, ONE).density.weight) for card in (made_up_card, both)]
    assert counts == [VALUES * len(both.mixture.weight), len(both.mixture.weight)]


def test_the_means_of_one_family(make):
    """Of a family that the card knows its own; of another, one from the population of families."""
    basis = Basis(("accuracy",), ("a", "b"))
    white = np.array([[2.0, 0.0, -1.0], [-2.0, 0.0, 1.0]])
    known = {"tau_family": 0.6, "family_white": white, "family_onset": np.array([1.0, -1.0]), "mu_level": -5.0}
    known |= {"mu_share": -1.0, "log_onset": -4.0, "family_misfit": np.array([0.0, 2.0]), "misfit": 0.1}
    card = make.card(basis, **known)

    def levels(*families):
        found = card_in_terms_of(card, tasks_of(make, *families), WEAK, ONE)
        assert not {"tau_family", "family_white"} & set(found.places)
        return found.values(mixture.sample(np.random.default_rng(1), found.mixture, 20_000))

    of_a, of_b, of_c = levels("a"), levels("b", "b"), levels("c")
    assert of_a["mu_level"].mean() == pytest.approx(-5.0 + 1.2, abs=0.02)
    assert of_b["mu_level"].mean() == pytest.approx(-5.0 - 1.2, abs=0.02)
    assert of_a["log_onset"].mean() == pytest.approx(-4.0 + 0.5, abs=0.02)
    assert np.median(of_b["misfit"]) == pytest.approx(0.1 * np.e, rel=0.05)
    assert of_c["mu_level"].mean() == pytest.approx(-5.0, abs=0.03)
    assert of_c["mu_level"].std() == pytest.approx(np.hypot(0.6, 0.11), rel=0.05)
    assert of_c["log_onset"].std() == pytest.approx(np.hypot(0.5, 0.08), rel=0.06)
    several = levels("a", "c")
    tau = make.card(basis, **known).values(card.draws)["tau"][:, 0]
    assert several["mu_level"].std() < 0.2
    assert np.median(several["tau"][:, 0]) == pytest.approx(np.median(np.hypot(tau, 0.6)), rel=0.05)


def test_the_means_of_all_families_from_one(make):
    """A card of one family tells the mean of all up to the spread between families, of which it knows nothing."""
    card = make.card(ONE, mu_level=-5.0, mu_share=-1.0)
    found = card_in_terms_of(card, tasks_of(make, *"aaabbb"), WEAK, Basis(("accuracy",), ("a", "b")))
    values = found.values(mixture.sample(np.random.default_rng(1), found.mixture, 20_000))
    # A normal times a half-normal of scale s has the standard deviation s.
    assert values["mu_level"].std() == pytest.approx(np.hypot(WEAK.tau_family[0], 0.1), rel=0.08)
    assert values["mu_level"].mean() == pytest.approx(-5.0, abs=0.06)
    # The farther the mean may be, the larger the spread between families.
    assert np.corrcoef(np.abs(values["mu_level"][:, 0] + 5.0), values["tau_family"][:, 0])[0, 1] > 0.3
    spread = stats.halfnorm(scale=WEAK.tau_family[0])
    assert np.median(values["tau_family"][:, 0]) == pytest.approx(spread.median(), rel=0.1)


def test_other_transforms_are_expressed_in_the_models(make):
    """A card fitted under a weak prior with wider scales has the same values of the hyperparameters."""
    other = WEAK._replace(tau=(3.0, 2.0, 1.0), misfit=0.3, drift=0.5)
    sites, weak = sites_of(other, PROXY, ONE)
    y = 0.5 * np.random.default_rng(0).normal(size=(600, len(weak.mean)))
    ends = np.cumsum([0, *(len(site.labels) for site in sites)])
    values = {site.name: constrained(site, weak.mean[a:b] + weak.scale[a:b] * y[:, a:b])
              for site, a, b in zip(sites, ends[:-1], ends[1:], strict=True)}  # fmt: skip
    about = Provenance(name="other", tasks=3, runs=9)
    card = make_card(values, sites, weak, Scope(PROXY, 0.2, ("accuracy",)), about, hashes=["a"])
    found = card_in_terms_of(card, tasks_of(make, None), WEAK, ONE)
    before, after = (own.summary().loc[["tau[level]", "misfit", "drift", "mu_rate"]] for own in (card, found))
    np.testing.assert_allclose(after[["lower", "median", "upper"]], before[["lower", "median", "upper"]], rtol=0.12)
    assert found.sites != card.sites and informed_by(found, WEAK, PROXY, ONE).places.size == 14
    assert card_in_terms_of(found, tasks_of(make, None), WEAK, ONE) is found


def test_what_covariates_tell_is_variance_between_tasks():
    """Once they are left out: against latents of very many tasks, drawn with covariates of unit variance."""
    rng = np.random.default_rng(0)
    corr = np.array([[1.0, 0.4, -0.2], [0.4, 1.0, 0.3], [-0.2, 0.3, 1.0]])
    tau, sway, white = np.array([0.8, 0.6, 0.3]), np.array([0.7, 0.2, 0.4]), rng.normal(size=(2, 3))
    values = {"tau": tau[None], "corr": corr[None], "sway": sway[None], "slope_white": white[None], "mu_share": -1.0}
    found = without_covariates(values)
    assert found.keys() == {"tau", "corr", "mu_share"}
    tasks = rng.normal(size=(200_000, 3)) @ (np.linalg.cholesky(corr) * tau[:, None]).T
    tasks += rng.normal(size=(200_000, 2)) @ (sway * white / np.sqrt(2.0))
    np.testing.assert_allclose(found["tau"][0], tasks.std(axis=0), rtol=0.01)
    np.testing.assert_allclose(found["corr"][0], np.corrcoef(tasks.T), atol=0.01)
    same = wider({"tau": tau[None], "corr": corr[None]}, np.zeros((3, 3)))
    np.testing.assert_allclose(same["tau"][0], tau, rtol=1e-12)


@pytest.mark.slow
def test_a_card_of_a_fit_with_covariates_has_no_slopes(with_families):
    """And its families by name."""
    posterior, _ = with_families
    card = card_of(posterior, "families")
    assert "slope_white" not in card.places and "sway" not in card.places
    assert "family_white[b, level]" in card.labels and card.scope.families == ("a", "b", "c")


def test_several_cards_are_combined(make):
    estimates = tasks_of(make, None)
    cards = [make.card(ONE, name=f"card-{i}", at=0.3 * i, first=i) for i in range(2)]
    made = card_for(cards, estimates, WEAK, ONE, 0)
    assert made.name == "card-0-card-1" and made.provenance.projects == 2
    assert card_for(cards[:1], estimates, WEAK, ONE, 0) is not None
    with pytest.raises(InputError, match="no cards"):
        card_for([], estimates, WEAK, ONE, 0)
    with pytest.raises(InputError, match="has seen too"):
        card_for([cards[0], dataclasses.replace(cards[1], fingerprints=cards[0].fingerprints)], estimates, WEAK, ONE, 0)


def test_cards_of_different_families_are_combined(make, monkeypatch):
    """For a model with families; one without them too, once it is in that model's terms."""

    def drawn(rng, evidence):
        size = evidence.linear.shape[1]
        return Predictive(rng.normal(size=(4000, size)), np.ones((4000, size)), 1.0, 4000.0)

    monkeypatch.setattr("bayes_prehoc.priors.meta.predictive", drawn)
    monkeypatch.setattr("bayes_prehoc.priors.meta.FITTED", 1000)
    cards = [
        make.card(Basis(("accuracy",), families), name=f"of-{len(families)}", first=len(families))
        for families in (("a", "b"), ("b", "c", ""), ())
    ]
    made = card_for(cards, tasks_of(make, *"aaabbb"), WEAK, Basis(("accuracy",), ("a", "b")), 0)
    site = next(site for site in made.sites if site.name == "family_white")
    assert site.shape == (3, 3) and site.labels[3:7] == (
        "family_white[b, level]", "family_white[b, share]", "family_white[b, rate]", "family_white[c, level]"
    )  # fmt: skip
    # Tasks that name no family are of another one in each project.
    assert "family_onset[c]" in made.labels and "family_onset[]" not in made.labels
    with pytest.raises(InputError, match=r"card of-0: it has no site 'tau_family', which of-2 has"):
        combine([cards[0], cards[2]], "both")


def test_cards_that_cannot_be_used_are_refused(make, made_up_card):
    estimates = tasks_of(make, None)
    with pytest.raises(InputError, match="fitted on runs of 't0'"):
        card_for(make.card(ONE, first=estimates["t0"].hashes[0]), estimates, WEAK, ONE, 0)
    _, _, other = make.simulated(tasks=1, proxy="conditional")
    with pytest.raises(InputError, match="of the proxy run_to_run"):
        card_for(made_up_card, other, weak_prior("conditional"), ONE, 0)
    assert isinstance(other, RiskEstimates)
    with pytest.raises(InputError, match="Give a card's name or its folder"):
        card_for(3, other, WEAK, ONE, 0)
    lacking = make.card(Basis(("accuracy",), ("a", "b")))
    lacking = dataclasses.replace(lacking, **without_site(lacking, "family_misfit"))
    with pytest.raises(InputError, match="lacks family_misfit"):
        card_in_terms_of(lacking, tasks_of(make, "a"), WEAK, ONE)


def without_site(card, name):
    """Fields of the card without one of its sites."""
    at = card.places[name]
    kept = [place for place in range(len(card.labels)) if not at.start <= place < at.stop]
    return {
        "sites": tuple(site for site in card.sites if site.name != name),
        "mixture": mixture.marginal(card.mixture, kept),
        "weak": dataclasses.replace(card.weak, mean=card.weak.mean[kept], scale=card.weak.scale[kept]),
        "draws": card.draws[:, kept],
    }
