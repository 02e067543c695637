"""The accountants by name: epsilon by either, what replacing a record would spend, and the ledger of a run."""

import math
from collections.abc import Callable
from functools import lru_cache

from bench.dp.accounting import domain, pld, rdp, tradeoff
from bench.dp.accounting.onestep import Gaussians


def epsilon_rdp(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon by Renyi DP after `steps` steps."""
    domain.check("rdp", noise_multiplier, sample_rate, steps, delta)
    if not steps or not noise_multiplier:
        return math.inf if steps else 0.0
    return rdp.epsilon(noise_multiplier, sample_rate, steps, delta)[0]


@lru_cache(maxsize=1024)
def epsilon_pld(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon by the privacy loss distribution after `steps` steps."""
    domain.check("pld", noise_multiplier, sample_rate, steps, delta)
    if not steps or not noise_multiplier:
        return math.inf if steps else 0.0
    return pld.epsilon(Gaussians(noise_multiplier, domain.rounded(sample_rate)), steps, delta)[0]


@lru_cache(maxsize=64)
def epsilon_replace_one(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Epsilon by PLD if a record were replaced by any other one: the sensitivity is twice that of zero-out."""
    domain.check("pld", noise_multiplier, sample_rate, steps, delta)
    if not steps or not noise_multiplier:
        return math.inf if steps else 0.0
    return pld.epsilon(Gaussians(noise_multiplier, domain.rounded(sample_rate), replaced=True), steps, delta)[0]


@lru_cache(maxsize=1024)
def _membership(noise_multiplier: float, sample_rate: float, steps: int) -> tuple[tuple[str, float], ...]:
    if not steps:
        found = {"mu": 0.0, "mu_regret": 0.0, "tpr_at_1_percent_fpr": tradeoff.FALSE_POSITIVES}
    elif not noise_multiplier:
        found = {"mu": math.inf, "mu_regret": 0.0, "tpr_at_1_percent_fpr": 1.0}
    else:
        found = tradeoff.of(Gaussians(noise_multiplier, domain.rounded(sample_rate)), steps)
    return tuple(found.items())


def ledger(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> dict[str, float]:
    """All that is said of what `steps` steps spend: both epsilons at `delta`, and mu, its regret and a test's detection rate.

    `mu` is that of Gaussian DP for all error rates from 1e-10, and `tpr_at_1_percent_fpr` the largest true positive rate of
    any membership test at 1 % false positives, whichever role the record has (`tradeoff`). Cached: a second call is free.
    """
    spent = noise_multiplier, sample_rate, steps, delta
    epsilons = {"epsilon_rdp": epsilon_rdp(*spent), "epsilon_pld": epsilon_pld(*spent)}
    return epsilons | {key: round(value, 6) for key, value in _membership(*spent[:3])}  # the grid gives four decimals


ACCOUNTANTS: dict[str, Callable[[float, float, int, float], float]] = {"rdp": epsilon_rdp, "pld": epsilon_pld}
