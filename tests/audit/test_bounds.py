"""Lower bounds on epsilon against other implementations, simulation and limits."""

import numpy as np
import pytest
from scipy import stats

from bench.audit import bounds


@pytest.mark.parametrize(
    ("guess", "p"),
    [  # canaries, guesses, right ones, epsilon, delta; `_one_run_p_value` of jax_privacy 2.0.0's auditing.py
        ((2000, 500, 480, 3.0, 1e-5), 0.2582908930370088),
        ((2000, 1000, 900, 2.0, 1e-5), 0.032797128207112496),
        ((2000, 1000, 900, 1.7, 0.0), 3.1785722864440426e-07),
        ((500, 100, 95, 2.0, 1e-3), 0.10224261324789034),
    ],
)
def test_steinke_is_jax_privacys(guess, p):
    m, guesses, right, epsilon, delta = guess
    assert bounds.steinke_p_value(guesses - right, guesses, m, epsilon, delta) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 1.993091408880088), (1.0, 4.377178095270346), (3.0, 16.675494402808294)])
def test_epsilon_of_mu_is_dp_accountings(mu, epsilon):
    """`get_epsilon_gaussian(1 / mu, 1e-5)` of dp-accounting 0.6.0."""
    assert bounds.epsilon_of_mu(mu, 1e-5) == pytest.approx(epsilon, abs=1e-5)
    assert bounds.epsilon_of_mu(0.0, 1e-5) == 0


@pytest.mark.parametrize(("guesses", "mu"), [(100, 1.7), (500, 1.7), (1000, 0.8), (1000, 3.0)])
def test_the_law_of_the_errors_is_that_of_simulated_games(guesses, mu):
    source, m, games = np.random.default_rng(0), 1000, 2000
    present = source.random((games, m)) < 0.5
    ratios = mu * (source.standard_normal((games, m)) + mu * present) - mu**2 / 2
    surest = np.argsort(-np.abs(ratios), 1)[:, :guesses]
    errors = (np.take_along_axis(ratios, surest, 1) > 0) != np.take_along_axis(present, surest, 1)
    errors = errors.sum(1)
    for few in np.quantile(errors, [0.02, 0.2, 0.5, 0.9]).astype(int):
        p = bounds.errors_p_value(int(few), guesses, m, mu)
        assert stats.binomtest(int((errors <= few).sum()), games, p).pvalue > 1e-5


def test_bounds_hold_with_their_confidence():
    """Of a thousand games of Gaussian canaries with mu 1.5: how often a bound exceeds it. Five deviations above 5 %."""
    source, m, mu = np.random.default_rng(1), 500, 1.5
    above = np.zeros(2)
    for _ in range(1000):
        present = source.random(m) < 0.5
        ratios = mu * (source.standard_normal(m) + mu * present) - mu**2 / 2
        surest = np.argsort(-np.abs(ratios))[: m // 2]
        errors = int(((ratios[surest] > 0) != present[surest]).sum())
        above += bounds.errors_p_value(errors, m // 2, m, mu) < 0.05, bounds.mu_of_rates(ratios, present) > mu
    assert (above <= 1000 * 0.05 + 5 * (1000 * 0.05 * 0.95) ** 0.5).all()


def test_a_bound_is_the_claim_whose_p_value_is_five_percent():
    mu = bounds.largest_refused(lambda mu: bounds.errors_p_value(100, 500, 1000, mu))
    assert bounds.errors_p_value(100, 500, 1000, mu) == pytest.approx(0.05, abs=1e-4)
    assert bounds.largest_refused(lambda mu: bounds.errors_p_value(250, 500, 1000, mu)) == 0
    assert bounds.largest_refused(lambda claim: 0.0) == 60
