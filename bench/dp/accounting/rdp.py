"""Epsilon by Renyi differential privacy, of T steps of the Poisson-subsampled Gaussian mechanism.

The bound is Opacus': the divergence of Mironov et al. 2019 (arXiv 1908.10530, section 3.3) and the conversion of Balle et
al. 2020 (arXiv 1905.09982, theorem 21), at Opacus' orders and at larger ones, so that nothing gets looser and epsilon 0.05
is within reach. Opacus sums a series whose length has no bound (5 s an order at noise multiplier 10,000 and rate 1/2); here
the same expectation is a trapezoidal sum, which agrees to nine digits and costs milliseconds everywhere.
"""

import math
from functools import lru_cache

import numpy as np
from opacus.accountants import RDPAccountant
from scipy.special import logsumexp

# Opacus ends at 63: no epsilon below 0.1 could then be reached, and epsilon 0.2 took a tenth too much noise.
LARGER = (72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
ORDERS = np.array([*RDPAccountant.DEFAULT_ALPHAS, *LARGER])
# Standard deviations beyond which the integrand is left out: a relative mass below 1e-28.
REACH = 11.5


def epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> tuple[float, float]:
    """(epsilon, its order): the smallest bound over ORDERS, never below 0. Arguments are in the accountants' domain."""
    spent = of_a_step(noise_multiplier, sample_rate) * steps
    bounds = spent - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1) + np.log1p(-1 / ORDERS)
    best = int(np.argmin(bounds))
    return max(float(bounds[best]), 0.0), float(ORDERS[best])


@lru_cache(maxsize=1024)
def of_a_step(noise_multiplier: float, sample_rate: float) -> np.ndarray:
    """Renyi divergences (orders,) of one step. Those of T steps are T times as large, so that a live line costs nothing."""
    if sample_rate == 1:
        return ORDERS / (2 * noise_multiplier**2)
    return np.array([_log_moment(noise_multiplier, sample_rate, order) / (order - 1) for order in ORDERS])


def _log_moment(sigma: float, q: float, order: float) -> float:
    """log E (P/Q)^order over Q = N(0, sigma^2), P = (1 - q) Q + q N(1, sigma^2).

    The trapezoidal rule on a Gaussian times an analytic function: at a spacing of sigma / 8 its error is below 1e-100, and
    where `order` is no integer, exp(-2 pi^2 sigma^2 / spacing) by the zeros of P / Q, at most 1e-17 at sigma^2 / 2
    (Trefethen & Weideman 2014, theorem 5.1).
    """
    spacing = sigma / 8 if float(order).is_integer() else min(sigma / 8, sigma**2 / 2)
    x = np.arange(-REACH * sigma, order + REACH * sigma, spacing)
    exponent = (2 * x - 1) / (2 * sigma**2)
    # log(1 - q + q e^v), of which the first form overflows where the second is exact
    excess = q * np.expm1(np.minimum(exponent, 600))
    log_ratio = np.where(
        exponent < 30, np.log1p(excess), exponent + math.log(q) + np.log1p((1 - q) / q * np.exp(-np.maximum(exponent, 30)))
    )
    log_weight = -0.5 * (x / sigma) ** 2 + math.log(spacing / sigma) - 0.5 * math.log(2 * math.pi)
    moment = float(logsumexp(order * log_ratio + log_weight))
    if moment > 0.5:
        return moment
    # close to 1 the moment less 1 is summed instead, as (1 + u)^order - 1 - order u, which is nowhere negative: E u = 0
    power = order * log_ratio
    near = np.exp(log_weight) * np.maximum(np.expm1(np.minimum(power, 700)) - order * excess, 0)
    return math.log1p(float(np.sum(np.where(power < 700, near, np.exp(log_weight + power)))))
