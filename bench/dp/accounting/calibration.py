"""The noise multiplier that meets a budget."""

import math
from collections.abc import Callable

from scipy.optimize import brentq

from bench import BenchError
from bench.dp.accounting import domain, rdp
from bench.dp.accounting.bounds import ACCOUNTANTS

# Relative width at which the search for the noise multiplier stops; the safe side is kept. PLD's grid moves sigma by 1e-5.
SIGMA_TOLERANCE = 1e-6
# The noise multipliers that are searched, whichever the accountant.
LEAST, MOST = domain.NOISE["pld"]


def calibrate(epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str) -> float:
    """The smallest noise multiplier (to one part in a million, by PLD in a hundred thousand; never below) for `epsilon`.

    Raises BenchError where no noise multiplier from 0.05 to 10,000 meets it, and where one of 0.05 does already.
    """
    if epsilon == math.inf:
        return 0.0
    if not epsilon > 0:
        raise BenchError(f"epsilon {epsilon:g}: a number above 0, or .inf, is expected")
    if accountant not in ACCOUNTANTS:
        raise BenchError(f"accountant {accountant!r} is not known; take one of {', '.join(ACCOUNTANTS)}")
    if steps == 0:
        raise BenchError(f"epsilon {epsilon:g}: no step, so that no noise is needed; take at least one step")
    domain.check(accountant, LEAST, sample_rate, steps, delta)

    def excess_of(spent: Callable) -> Callable[[float], float]:
        """Whether, and by how many nats of its logarithm, the budget is exceeded at a logarithm of the noise multiplier."""
        return lambda log_sigma: math.log(max(spent(math.exp(log_sigma), sample_rate, steps, delta), 1e-15) / epsilon)

    excess = excess_of(ACCOUNTANTS[accountant])
    low, high = _bracket(excess, excess_of(ACCOUNTANTS["rdp"]) if accountant == "pld" else None)
    if high is None:
        raise _out_of_reach(epsilon, sample_rate, steps, delta, accountant)
    if low is None:
        raise _hardly_any(epsilon, sample_rate, steps, delta, accountant)
    sigma, step = math.exp(brentq(excess, low, high, xtol=SIGMA_TOLERANCE / 4)), SIGMA_TOLERANCE / 4
    while ACCOUNTANTS[accountant](sigma, sample_rate, steps, delta) > epsilon:
        sigma, step = sigma * (1 + step), 2 * step
    return sigma


def reach(epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str) -> None:
    """BenchError where `calibrate` would find no noise multiplier, in the same words; milliseconds, seldom a second."""
    if epsilon == math.inf:
        return
    budget = epsilon, sample_rate, steps, delta, accountant
    for sigma in (LEAST, MOST):
        domain.check(accountant, sigma, sample_rate, steps, delta)
    at = {(name, sigma): None for name in ACCOUNTANTS for sigma in (LEAST, MOST)}

    def spent(name: str, sigma: float) -> float:
        if at[name, sigma] is None:
            at[name, sigma] = ACCOUNTANTS[name](sigma, sample_rate, steps, delta)
        return at[name, sigma]

    # by RDP both are larger, so that PLD is asked where RDP leaves it open
    if spent("rdp", MOST) > epsilon and (accountant == "rdp" or spent("pld", MOST) > epsilon):
        raise _out_of_reach(*budget)
    close = accountant == "pld" and epsilon > spent("rdp", LEAST) / 2
    if spent("rdp", LEAST) <= epsilon or (close and spent("pld", LEAST) <= epsilon):
        raise _hardly_any(*budget)


def _where(epsilon: float, sample_rate: float, steps: int, delta: float, accountant: str) -> str:
    taken = f"{steps:,} step{'s' * (steps != 1)} at rate {sample_rate:g}"
    return f"epsilon {epsilon:g} (accountant: {accountant}, delta {delta:g}, {taken})"


def _out_of_reach(*budget) -> BenchError:
    epsilon, _, _, delta, accountant = budget
    return BenchError(
        f"{_where(*budget)}: out of reach, noise multipliers end at {MOST:,.0f}; {_way_out(accountant, epsilon, delta)}"
    )


def _hardly_any(*budget) -> BenchError:
    return BenchError(
        f"{_where(*budget)}: met with hardly any noise, below {LEAST:g}; use epsilon .inf, a smaller one or more steps"
    )


def _bracket(excess: Callable, guide: Callable | None) -> tuple[float | None, float | None]:
    """Logarithms of noise multipliers with too little and with enough noise; None where there is none from LEAST to MOST.

    `guide` is the excess by RDP, which costs little and whose noise is enough by PLD, too, and seldom a tenth too much.
    """
    ends = math.log(LEAST) + 1e-12, math.log(MOST) - 1e-12  # within the domain, once rounded
    if guide is None:
        return ends[0] if excess(ends[0]) > 0 else None, ends[1] if excess(ends[1]) <= 0 else None
    if guide(ends[1]) <= 0:
        high = brentq(guide, *ends, xtol=1e-4) + 1e-3 if guide(ends[0]) > 0 else ends[0]
        width = 0.1
    else:  # below RDP's smallest epsilon
        high, width = ends[1], 1.0
    high = min(high, ends[1])
    while excess(high) > 0:
        if high == ends[1]:
            return ends[0], None
        high = min(high + width, ends[1])
    low = high
    while True:
        if low == ends[0]:
            return None, high
        low, width = max(low - width, ends[0]), 2 * width
        if excess(low) > 0:
            return low, high
        high = low


def _way_out(accountant: str, epsilon: float, delta: float) -> str:
    """RDP has an epsilon below which no noise gets: that of its largest order alone."""
    order = float(rdp.ORDERS[-1])
    least = -(math.log(delta) + math.log(order)) / (order - 1) + math.log1p(-1 / order)
    if accountant == "rdp":
        more = f" RDP gets to no epsilon below {least:.2g} here, whatever the noise;" if epsilon < least else ""
        return f"{more.strip()}{' ' if more else ''}use accountant: pld, which is tighter, or take fewer steps".strip()
    return "take fewer steps, a smaller batch or a larger delta"
