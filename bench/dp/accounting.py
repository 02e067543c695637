"""Privacy spent by T steps of the Poisson-subsampled Gaussian mechanism, and the noise that meets a budget.

Adjacency is add-or-remove-one. RDP is Opacus' accountant (Mironov et al. 2019, arXiv 1908.10530, with the conversion of
Balle et al. 2020, arXiv 1905.09982), PLD is dp-accounting's (Sommer et al. 2019; Doroshenko et al. 2022): PLD is the
tighter of two valid bounds.
"""

import math
import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from opacus.accountants import RDPAccountant
from opacus.accountants.analysis import rdp
from scipy.optimize import brentq

from bench import BenchError

# Relative width at which the search for the noise multiplier stops; the safe side is kept.
SIGMA_TOLERANCE = 1e-6


def epsilon_rdp(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon by Renyi DP after `steps` steps."""
    if steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    orders = RDPAccountant.DEFAULT_ALPHAS
    spent = _rdp_of_a_step(noise_multiplier, sample_rate) * steps
    with warnings.catch_warnings():
        # Opacus warns when the best order is its largest or smallest: the bound is then valid but loose, and PLD
        # stands beside it.
        warnings.filterwarnings("ignore", message="Optimal order is the")
        epsilon, _ = rdp.get_privacy_spent(orders=orders, rdp=spent, delta=delta)
    return float(epsilon)


@lru_cache(maxsize=1024)
def _rdp_of_a_step(noise_multiplier: float, sample_rate: float) -> np.ndarray:
    """Renyi divergences (orders,) of one step. Those of T steps are T times as large, so that a live line costs nothing."""
    orders = RDPAccountant.DEFAULT_ALPHAS
    return rdp.compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=orders)


@lru_cache(maxsize=1024)
def epsilon_pld(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon by the privacy loss distribution after `steps` steps."""
    if steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    step = PoissonSampledDpEvent(sample_rate, GaussianDpEvent(noise_multiplier))
    return float(PLDAccountant().compose(SelfComposedDpEvent(step, steps)).get_epsilon(delta))


ACCOUNTANTS: dict[str, Callable[[float, float, int, float], float]] = {"rdp": epsilon_rdp, "pld": epsilon_pld}


def calibrate(epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str) -> float:
    """The smallest noise multiplier (to one part in a million, never below) that keeps `steps` steps within `epsilon`.

    Raises BenchError where no noise multiplier from 0.1 to 1000 does.
    """
    if math.isinf(epsilon):
        return 0.0
    spent = ACCOUNTANTS[accountant]

    def excess(log_sigma: float) -> float:
        return spent(math.exp(log_sigma), sample_rate, steps, delta) - epsilon

    low, high = math.log(0.3), math.log(20)
    while excess(high) > 0:
        high += 1
        if high > math.log(1000):
            raise BenchError(f"epsilon {epsilon:g}: out of reach in {steps} steps at rate {sample_rate:g}; take fewer steps")
    while excess(low) < 0:
        low -= 0.5
        if low < math.log(0.1):
            raise BenchError(f"epsilon {epsilon:g}: met with hardly any noise (below 0.1); use epsilon .inf or less data")
    sigma = math.exp(brentq(excess, low, high, xtol=SIGMA_TOLERANCE / 4))
    while spent(sigma, sample_rate, steps, delta) > epsilon:
        sigma *= 1 + SIGMA_TOLERANCE / 4
    return sigma
