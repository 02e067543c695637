"""Accountants against published values and against each other."""

import math

import pytest

from bench import BenchError
from bench.dp.accounting import ACCOUNTANTS, SIGMA_TOLERANCE, calibrate, epsilon_pld, epsilon_rdp


def test_the_authors_checkpoint():
    """load_model.ipynb of mrchntia/ScaleNorm b3c2465 saved epsilon 2.89473775043 for these 2,309 steps at rate 1/49."""
    spent = (1.6986083984375, 1 / 49, 2309, 1e-5)
    assert epsilon_rdp(*spent) == pytest.approx(2.89473775, abs=1e-8)
    assert epsilon_pld(*spent) == pytest.approx(2.6568, abs=1e-4)


@pytest.mark.parametrize(("sigma", "steps", "rdp", "pld"), [(10.0, 875, 0.988, 0.904), (3.0, 2468, 7.046, 6.530)])
def test_de_et_al_on_50000_images(sigma, steps, rdp, pld):
    """Computed independently of this code with dp-accounting for De et al.'s published noise, batch 4,096."""
    assert epsilon_rdp(sigma, 4096 / 50000, steps, 1e-5) == pytest.approx(rdp, abs=2e-3)
    assert epsilon_pld(sigma, 4096 / 50000, steps, 1e-5) == pytest.approx(pld, abs=2e-3)


def test_one_step_without_sampling_is_the_gaussian_mechanism():
    """Balle & Wang 2018, theorem 8: delta(eps) = Phi(1/(2s) - eps s) - e^eps Phi(-1/(2s) - eps s)."""
    from scipy.stats import norm

    sigma, epsilon = 2.0, epsilon_pld(2.0, 1.0, 1, 1e-5)
    delta = norm.cdf(1 / (2 * sigma) - epsilon * sigma) - math.exp(epsilon) * norm.cdf(-1 / (2 * sigma) - epsilon * sigma)
    # PLD discretises losses at 1e-4, rounding up: epsilon may exceed the exact one by that much
    assert delta <= 1e-5
    lower = epsilon - 2e-4
    assert norm.cdf(1 / (2 * sigma) - lower * sigma) - math.exp(lower) * norm.cdf(-1 / (2 * sigma) - lower * sigma) > 1e-5


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("epsilon", [0.5, 3.0, 8.0])
def test_calibration_is_tight_and_on_the_safe_side(accountant, epsilon):
    sigma = calibrate(epsilon, 192 / 1437, 80, 1e-4, accountant)
    spent = ACCOUNTANTS[accountant]
    assert spent(sigma, 192 / 1437, 80, 1e-4) <= epsilon
    # a hundred tolerances less noise break the budget; PLD's own grid is of the order of a few tolerances
    assert spent(sigma * (1 - 100 * SIGMA_TOLERANCE), 192 / 1437, 80, 1e-4) > epsilon


def test_pld_needs_less_noise_than_rdp():
    assert calibrate(8, 192 / 1437, 80, 1e-4, "pld") < calibrate(8, 192 / 1437, 80, 1e-4, "rdp")


def test_edges():
    for spent in ACCOUNTANTS.values():
        assert spent(1.0, 0.1, 0, 1e-5) == 0
        assert spent(0.0, 0.1, 1, 1e-5) == math.inf
    assert calibrate(math.inf, 0.1, 10, 1e-5, "rdp") == 0
    with pytest.raises(BenchError, match="out of reach"):
        calibrate(1e-4, 1.0, 10_000, 1e-5, "rdp")
    with pytest.raises(BenchError, match="hardly any noise"):
        calibrate(1e6, 0.001, 1, 1e-5, "rdp")
