"""The accountants against other people's, against closed forms, and against a second route to the same number."""

import math
import warnings

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from opacus.accountants import RDPAccountant
from opacus.accountants.analysis import rdp as opacus_rdp
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr, ndtr, ndtri

from bench.dp import accounting
from bench.dp.accounting import composed, onestep, pld, rdp, tradeoff

# (noise multiplier, rate, steps): the recipes here, and what lies around them
USUAL = [
    (2.561, 4096 / 50000, 2468),
    (10.0, 4096 / 50000, 875),
    (1.6986083984375, 1 / 49, 2309),
    (0.95679, 1 / 49, 2309),
    (0.8, 192 / 1437, 80),
    (3.0, 0.5, 40),
]
# What PLD may lie above the exact value: a third of its last halving, relatively (pld.RELATIVE), and pld.ABSOLUTE.
ABOVE = pld.RELATIVE


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Of mu-GDP, Balle & Wang 2018, theorem 8, in logarithms: delta = Phi(mu/2 - e/mu) - e^e Phi(-mu/2 - e/mu)."""

    def log_delta(epsilon: float) -> float:
        first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return first + math.log(-math.expm1(second - first))

    return float(brentq(lambda epsilon: log_delta(epsilon) - math.log(delta), 1e-9 * mu, mu**2 / 2 + 9 * mu, xtol=1e-13))


@pytest.mark.parametrize(("sigma", "q"), [(2.561, 0.08192), (1.7, 1 / 49), (0.5, 0.01), (0.3, 0.1), (10, 0.5), (0.1, 0.5)])
def test_renyi_divergences_are_opacus(sigma, q):
    """Opacus leaves terms below e^-30 out of log A, which divides by order - 1 >= 0.1: 1e-12 or a few times that."""
    theirs = opacus_rdp.compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=rdp.ORDERS)
    np.testing.assert_allclose(rdp.of_a_step(sigma, q), theirs, rtol=1e-10, atol=5e-12)


@pytest.mark.parametrize("q", [1e-6, 1e-3, 0.1, 0.9])
def test_renyi_divergences_over_the_whole_domain(q):
    """They are numbers, grow with order (van Erven & Harremoes 2014, theorem 3) and fall with noise: no seams."""
    found = np.array([rdp.of_a_step(sigma, q) for sigma in np.geomspace(0.01, 1e6, 33)])
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert (np.diff(found, axis=1) >= -1e-9 * found[:, 1:]).all()
    assert (np.diff(found, axis=0) <= 1e-9 * found[:-1]).all()


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize(("sigma", "q", "steps"), [*USUAL, (30.0, 0.01, 100), (20.0, 0.1, 1)])
def test_no_bound_by_rdp_is_looser_than_opacus(sigma, q, steps, delta):
    assert set(RDPAccountant.DEFAULT_ALPHAS) < set(rdp.ORDERS)
    orders = RDPAccountant.DEFAULT_ALPHAS
    spent = opacus_rdp.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=orders)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order")  # at an end of theirs, as some cases mean to be
        theirs, order = opacus_rdp.get_privacy_spent(orders=orders, rdp=spent, delta=delta)
    ours = accounting.epsilon_rdp(sigma, q, steps, delta)
    assert ours <= theirs + steps * 5e-12  # of their truncation, see above
    if order < 60:  # the best order is one of theirs
        assert ours == pytest.approx(theirs, rel=1e-7)
    elif delta < 1e-4 and sigma >= 20:
        assert ours < 0.9 * theirs


@pytest.mark.parametrize(("sigma", "q", "steps"), USUAL)
def test_pld_is_dp_accountings(sigma, q, steps):
    """Whose spacing of 1e-4 lies above the exact value by 1e-5 or so here; ours by less than ABOVE."""
    theirs = from_gaussian_mechanism(sigma, sampling_prob=q).self_compose(steps).get_epsilon_for_delta(1e-5)
    assert accounting.epsilon_pld(sigma, q, steps, 1e-5) == pytest.approx(theirs, rel=3e-5)


@pytest.mark.parametrize("delta", [0.1, 1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize(
    ("sigma", "steps"), [(1.0, 1), (2.0, 10_000), (0.05, 1), (1e4, 1), (1e3, 10**6), (1e4, 10**6), (0.3, 7)]
)
def test_without_sampling_composition_is_exact(sigma, steps, delta):
    """T steps are mu-GDP with mu = sqrt(T) / sigma: this holds rounding, grid and tails against the exact value."""
    exact = gaussian_epsilon(math.sqrt(steps) / sigma, delta) if ndtr_width(math.sqrt(steps) / sigma) > delta else 0.0
    found = accounting.epsilon_pld(sigma, 1.0, steps, delta)
    assert exact * (1 - 1e-9) - 1e-12 <= found <= exact * (1 + ABOVE) + pld.ABSOLUTE


def ndtr_width(mu: float) -> float:
    """delta of mu-GDP at epsilon 0"""
    return float(ndtr(mu / 2) - ndtr(-mu / 2))


def one_step(x: float, sigma: float, q: float) -> float:
    """The loss of removal at output x."""
    return math.log1p(q * math.expm1((2 * x - 1) / (2 * sigma**2)))


def delta_of_removal(epsilon: np.ndarray, sigma: float, q: float) -> np.ndarray:
    """P(x > t) - e^epsilon Q(x > t), where t is the output whose loss is epsilon."""
    epsilon = np.asarray(epsilon, dtype=float)
    inside = np.expm1(epsilon) / q
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(inside > -1, sigma**2 * np.log1p(inside) + 0.5, -np.inf)
    kept = (1 - q) * ndtr(-t / sigma) + q * ndtr((1 - t) / sigma) - np.exp(epsilon) * ndtr(-t / sigma)
    return np.maximum(kept, 0)


def delta_of_addition(epsilon: np.ndarray, sigma: float, q: float) -> np.ndarray:
    """The same with both roles exchanged: Q(x < t) - e^epsilon P(x < t), where the loss of removal is -epsilon."""
    epsilon = np.asarray(epsilon, dtype=float)
    inside = np.expm1(-epsilon) / q
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(inside > -1, sigma**2 * np.log1p(inside) + 0.5, -np.inf)
    left = (1 - q) * ndtr(t / sigma) + q * ndtr((t - 1) / sigma)
    return np.maximum(ndtr(t / sigma) - np.exp(epsilon) * left, 0)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-11])
@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.1), (0.7, 0.5), (2.0, 0.02)])
def test_one_and_two_sampled_steps(sigma, q, delta, steps):
    """delta of one step in closed form; of two, its mean over the first one's outputs, by the trapezoidal rule."""
    x = np.linspace(-9 * sigma, 1 + 9 * sigma, 20_001)
    loss = np.array([one_step(value, sigma, q) for value in x])
    absent = np.exp(-0.5 * (x / sigma) ** 2) / sigma / math.sqrt(2 * math.pi) * (x[1] - x[0])

    def of(epsilon: float) -> float:
        if steps == 1:
            return float(max(delta_of_removal(epsilon, sigma, q), delta_of_addition(epsilon, sigma, q)))
        removed = float(absent * np.exp(loss) @ delta_of_removal(epsilon - loss, sigma, q))
        return max(removed, float(absent @ delta_of_addition(epsilon + loss, sigma, q)))

    exact = brentq(lambda epsilon: of(epsilon) - delta, 0, 60, xtol=1e-12) if of(0.0) > delta else 0.0
    found = accounting.epsilon_pld(sigma, q, steps, delta)
    # at delta 1e-11 differences of tails near 1e-16 / 1e-11 leave five digits of the reference itself
    assert exact - 1e-5 * (delta < 1e-10) - 1e-7 <= found <= exact * (1 + ABOVE) + 1e-5 * (delta < 1e-10) + 1e-7


def test_many_steps_at_a_small_delta():
    """Where plain FFT is still good for four digits: 20,000 steps, delta 1e-9."""
    theirs = from_gaussian_mechanism(1.0, sampling_prob=1e-3, value_discretization_interval=5e-5).self_compose(20_000)
    assert accounting.epsilon_pld(1.0, 1e-3, 20_000, 1e-9) == pytest.approx(theirs.get_epsilon_for_delta(1e-9), rel=2e-4)


def test_tilting_keeps_tiny_deltas(monkeypatch):
    """A million steps at delta 1e-12, once around the losses that decide and once, as usual, around their mean."""
    pair = onestep.on_grid(onestep.Gaussians(1e3, 1.0), 2e-5)
    step, exact = composed.Step(pair.first, 2e-5, pair.upper), gaussian_epsilon(1.0, 1e-12)
    assert composed.epsilon(step, pair.lost, 10**6, 1e-12) == pytest.approx(exact, rel=1e-4)
    monkeypatch.setattr(step, "tilt_for", lambda steps, delta: 0.0)
    assert composed.epsilon(step, pair.lost, 10**6, 1e-12) > 1.01 * exact


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "mu", "regret"),
    [
        (2.561, 4096 / 50000, 2468, 1.670, 0.005),  # these three also by gdpnum 0.1.2
        (3.0, 4096 / 50000, 2468, 1.411, 0.004),
        (2.6245, 1 / 13, 2600, 1.568, 0.005),
        (0.95679, 1 / 49, 2309, 1.483, 0.0247),  # gdpnum: 1.382 and 0.639, see below
        (1.6986083984375, 1 / 49, 2309, 0.655, 0.0054),
    ],
)
def test_mu_by_a_second_route(sigma, q, steps, mu, regret):
    """power(alpha) = min over epsilon of delta(epsilon) + e^epsilon alpha (Dong et al., proposition 6), by dp-accounting.

    gdpnum 0.1.2 reads alpha off dp-accounting's distribution of addition, whose masses carry 1e-12 of rounding each and more
    after composition: at alpha 1e-10 it has a power of 9e-12, below alpha itself, where this route and ours have 5e-7.
    """
    theirs = from_gaussian_mechanism(sigma, sampling_prob=q).self_compose(steps)

    def power(alpha: float) -> float:
        def bound(epsilon: float) -> float:
            return theirs.get_delta_for_epsilon(epsilon) + math.exp(epsilon) * alpha

        return float(minimize_scalar(bound, bounds=(0, 12), method="bounded", options={"xatol": 1e-3}).fun)

    found = accounting.ledger(sigma, q, steps, 1e-5)
    assert found["tpr_at_1_percent_fpr"] == pytest.approx(power(0.01), abs=1e-4)
    alphas, betas, _ = tradeoff._curve(onestep.Gaussians(sigma, q), steps)
    for alpha in (1e-4, 1e-3):
        assert 1 - np.interp(alpha, alphas[::-1], betas[::-1]) == pytest.approx(power(alpha), rel=1e-3)
    # far out dp-accounting's rounding is seen; there by our own epsilons, whose tilted sums the exact tests above hold
    deltas = power_of(found["mu"], tradeoff.SMALLEST_RATE) * np.geomspace(0.05, 0.9, 10)
    reached = [d + math.exp(accounting.epsilon_pld(sigma, q, steps, d)) * tradeoff.SMALLEST_RATE for d in deltas]
    # a power that is too large by a part in a hundred moves mu by 2e-3 / 6; the deltas are dense enough for half of that
    assert found["mu"] == pytest.approx(ndtri(min(reached)) - ndtri(tradeoff.SMALLEST_RATE), abs=1e-3)
    assert (found["mu"], found["mu_regret"]) == (pytest.approx(mu, abs=1e-3), pytest.approx(regret, abs=5e-4))
    # what mu alone allows is more: 0.256 where 0.248 is the largest, for the first row
    assert found["tpr_at_1_percent_fpr"] < power_of(found["mu"], 0.01)


def power_of(mu: float, alpha: float) -> float:
    return float(ndtr(mu + ndtri(alpha)))


@pytest.mark.parametrize(("sigma", "steps"), [(2.0, 1), (2.0, 16), (300.0, 100), (1e4, 10**5)])
def test_mu_of_a_gaussian_is_its_own(sigma, steps):
    found, mu = tradeoff.of(onestep.Gaussians(sigma, 1.0), steps), math.sqrt(steps) / sigma
    assert found["mu"] == pytest.approx(mu, rel=1e-4)
    assert found["mu"] >= mu * (1 - 1e-9)
    assert 0 <= found["mu_regret"] < 1e-5
    assert found["tpr_at_1_percent_fpr"] == pytest.approx(ndtr(mu + ndtri(0.01)), rel=1e-4)


def test_a_record_that_is_seldom_drawn_and_then_seen():
    """Noise is 1/20: who is drawn in one of ten steps is told from all others; else there is nothing to see."""
    drawn = 1 - (1 - 1e-3) ** 10
    found = tradeoff.of(onestep.Gaussians(0.05, 1e-3), 10)
    # what the rest of a grid point's width adds, 3e-3 of the 1 %, is the tolerance
    assert drawn + (1 - drawn) * 0.01 <= found["tpr_at_1_percent_fpr"] <= drawn + (1 - drawn) * 0.01 + 2e-4
    assert found["mu"] == pytest.approx(ndtri(drawn) - ndtri(1e-10), rel=1e-3)


def test_the_regret_is_of_both_roles():
    """One step is far from Gaussian: mu of its tail misjudges the middle by what a scan over alpha finds."""
    alphas, betas, _ = tradeoff._curve(onestep.Gaussians(1.0, 0.1), 1)
    found = tradeoff.of(onestep.Gaussians(1.0, 0.1), 1)
    x = np.linspace(1e-4, 1 - 1e-4, 2001)
    f = np.interp(x, alphas[::-1], betas[::-1])
    mirrored = np.interp(x, betas, alphas)
    gap = np.minimum(f, mirrored) - ndtr(-ndtri(x) - found["mu"])
    # a shift along both axes by d closes a gap of (1 + slope) d, whose slope lies between 0 and that at the diagonal, 1
    assert gap.max() / 2 * 0.95 <= found["mu_regret"] <= gap.max()
    assert found["mu_regret"] > 0.05


def test_replace_one_spends_twice():
    """17.87 where zero-out says 8.00, which is dp-accounting's number too; without sampling, the sensitivity is 2."""
    theirs = from_gaussian_mechanism(2.561, sampling_prob=4096 / 50000, neighboring_relation=NeighboringRelation.REPLACE_ONE)
    found = accounting.epsilon_replace_one(2.561, 4096 / 50000, 2468, 1e-5)
    assert found == pytest.approx(theirs.self_compose(2468).get_epsilon_for_delta(1e-5), rel=3e-5)
    assert (found, accounting.epsilon_pld(2.561, 4096 / 50000, 2468, 1e-5)) == (
        pytest.approx(17.87, abs=5e-3),
        pytest.approx(8.00, abs=5e-3),
    )
    assert accounting.epsilon_replace_one(4.0, 1.0, 9, 1e-5) == pytest.approx(gaussian_epsilon(2 * 3 / 4, 1e-5), rel=ABOVE)
