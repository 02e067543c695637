"""Accountants against published values and against each other."""

import math

import pytest

from bench import BenchError
from bench.dp.accounting import ACCOUNTANTS, SIGMA_TOLERANCE, calibrate, epsilon_pld, epsilon_rdp, rdp


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


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("sigma", [0.0501, 0.3, 57.8, 9_990.0])
def test_the_search_reaches_from_a_twentieth_to_ten_thousand(accountant, sigma):
    """The far end by RDP with a million steps, as its smallest epsilon would else hide the noise."""
    rate, steps, delta = (0.01, 20, 1e-5) if sigma < 100 else (1.0, 10**6 if accountant == "rdp" else 10**4, 1e-3)
    epsilon = ACCOUNTANTS[accountant](sigma, rate, steps, delta)
    assert calibrate(epsilon, rate, steps, delta, accountant) == pytest.approx(sigma, rel=3e-5)


def test_small_epsilons_are_within_reach():
    """RDP's floor was 0.103 at delta 1e-5 with Opacus' orders, and at epsilon 0.2 it took a tenth too much noise."""
    assert calibrate(0.05, 0.1, 100, 1e-5, "rdp") < 1.15 * calibrate(0.05, 0.1, 100, 1e-5, "pld")
    assert calibrate(0.005, 0.01, 1, 1e-5, "pld") > 1


def test_pld_is_asked_a_few_times_and_not_far_from_the_answer(monkeypatch):
    asked = []

    def spent(sigma, *others):
        asked.append(sigma)
        return epsilon_pld(sigma, *others)

    monkeypatch.setitem(ACCOUNTANTS, "pld", spent)
    found = calibrate(8, 4096 / 50000, 2468, 1e-5, "pld")
    assert found == pytest.approx(2.5607, abs=1e-4)
    assert len(asked) <= 12
    assert min(asked) > 0.85 * found


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ((0.001, 0.1, 5, 1e-5, "rdp"), r"epsilon 0.001 \(accountant: rdp, delta 1e-05, 5 steps at rate 0.1\): out of reach.*"
         "RDP gets to no epsilon below 0.0035 here, whatever the noise; use accountant: pld"),
        ((0.004, 1.0, 10**6, 1e-5, "rdp"), "out of reach, noise multipliers end at 10,000; use accountant: pld"),
        ((1e-4, 1.0, 10**6, 1e-5, "pld"), "accountant: pld.*out of reach.*; take fewer steps, a smaller batch or"),
        ((1e6, 0.001, 1, 1e-5, "pld"), "1 step at rate 0.001.*: met with hardly any noise, below 0.05; use epsilon .inf"),
        ((-1.0, 0.1, 5, 1e-5, "rdp"), "epsilon -1: a number above 0"),
        ((math.nan, 0.1, 5, 1e-5, "rdp"), "epsilon nan: a number above 0"),
        ((1.0, 0.1, 0, 1e-5, "rdp"), "no step, so that no noise is needed"),
        ((1.0, 0.1, 5, 1e-5, "prv"), "accountant 'prv' is not known; take one of rdp, pld"),
        ((1.0, 0.1, 5, 1e-13, "pld"), "PLD not computed: beyond deltas from 1e-12"),
    ],
)  # fmt: skip
def test_every_refusal_says_why_and_the_way_out(budget, says):
    with pytest.raises(BenchError, match=says):
        calibrate(*budget)


def test_edges():
    for spent in ACCOUNTANTS.values():
        assert spent(1.0, 0.1, 0, 1e-5) == 0
        assert spent(0.0, 0.1, 1, 1e-5) == math.inf
    assert calibrate(math.inf, 0.1, 10, 1e-5, "rdp") == 0
    with pytest.raises(BenchError, match="out of reach"):
        calibrate(1e-4, 1.0, 10_000, 1e-5, "rdp")
    with pytest.raises(BenchError, match="hardly any noise"):
        calibrate(1e6, 0.001, 1, 1e-5, "rdp")


def test_a_live_line_computes_the_divergences_of_one_step_once(monkeypatch):
    """Those of T steps are T times as large; behind a drained GPU milliseconds would count."""
    spent, computed, real = (1.7, 1 / 49, 1e-5), [], rdp._log_moment
    monkeypatch.setattr(rdp, "_log_moment", lambda *arguments: computed.append(1) or real(*arguments))
    rdp.of_a_step.cache_clear()
    epsilons = [epsilon_rdp(*spent[:2], steps, spent[2]) for steps in range(1, 200)]
    assert len(computed) == len(rdp.ORDERS)
    assert epsilons == sorted(epsilons)
    rdp.of_a_step.cache_clear()
    assert epsilon_rdp(*spent[:2], 199, spent[2]) == epsilons[-1]
