"""What a membership test can do against T steps: mu of Gaussian differential privacy, its regret, and a true positive rate.

A test decides from all that a run released whether a record was in. Its false positive rate alpha and its false negative
rate beta lie above the trade-off curve of the two distributions (Dong, Roth & Su 2022, arXiv 1905.02383), a polygon here, as
losses lie on a grid. mu and regret are those of Gomez et al., SaTML 2026 (arXiv 2503.10945, section 4): unlike an epsilon at
some delta, mu orders runs by all tests at once, and the regret says how much of the curve it gives away.
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from bench.dp.accounting.composed import OUTSIDE, ROUNDING, Step
from bench.dp.accounting.onestep import Gaussians, TooFine, on_grid
from bench.dp.accounting.pld import start

# Error rates below which the curve does not decide mu: no subsampled run is Gaussian in its farthest tail (Gomez et al.).
SMALLEST_RATE = 1e-10
FALSE_POSITIVES = 0.01


def of(gaussians: Gaussians, steps: int) -> dict[str, float]:
    """`mu`, `mu_regret` and `tpr_at_1_percent_fpr`, for usual runs to four digits, seldom 2e-4 above.

    mu is inf where every error rate of the best test is below 1e-10, that is, beyond 12.7. Tests within 1e-10 of guessing do
    not count either, so that 0 means a total variation below that.
    """
    alphas, betas, detected = _curve(gaussians, steps)
    # a polygon's largest mu lies at a corner or where the rates that count end
    at_end, mirrored = np.interp(SMALLEST_RATE, alphas[::-1], betas[::-1]), np.interp(SMALLEST_RATE, betas, alphas)
    rates = np.append(alphas, [SMALLEST_RATE, mirrored]), np.append(betas, [at_end, SMALLEST_RATE])
    usable = (np.minimum(*rates) >= SMALLEST_RATE) & (rates[0] + rates[1] < 1 - SMALLEST_RATE)
    if usable.any():
        mu = float(np.max(-ndtri(rates[0][usable]) - ndtri(rates[1][usable])))
        regret = _regret(alphas, betas, mu)
    else:
        separate = bool(np.min(alphas + betas) < 0.5)
        mu, regret = (math.inf, 0.0) if separate else (0.0, 0.0)
    return {"mu": mu, "mu_regret": regret, "tpr_at_1_percent_fpr": min(detected, 1.0)}


def _curve(gaussians: Gaussians, steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(alphas, betas) of the tests "loss above a grid point", alphas falling, and the rate detected at FALSE_POSITIVES.

    The sum's distribution is put together from four tilts, around both hypotheses' centres and around the losses where
    either is left by SMALLEST_RATE only, so that rounding is small against the tails as well.
    """
    spacing = start(gaussians) / 2
    while True:
        try:
            pair = on_grid(gaussians, spacing)
            step = Step(pair.first, spacing, pair.upper)
            sums = [step.composed(steps, tilt) for tilt in (0.0, -1.0)]
            if sums[0].losses[0] > sums[1].losses[-1]:  # no loss that either hypothesis leaves any chance of
                return np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), 1.0
            sums += [step.composed(steps, _to_the_tail(step, steps, tilt)) for tilt in (-1.0, 0.0)]
            break
        except TooFine:
            spacing *= 2
    starts = [round(float(found.losses[0]) / spacing) for found in sums]
    first = min(starts)
    length = max(begin + len(found.losses) for begin, found in zip(starts, sums, strict=True)) - first
    noise = ROUNDING * steps if steps > 1 else 0.0  # a tilt would make any number of it; what is left out is less than that
    log_present, nearness = np.full(length, -np.inf), np.zeros(length)
    for begin, found in zip(starts, sums, strict=True):
        here = slice(begin - first, begin - first + len(found.masses))
        relative = found.masses / found.masses.max()
        nearer = relative > np.maximum(nearness[here], noise)
        log_masses = np.log(found.masses[nearer]) + found.log_factor - found.tilt * (found.losses[nearer] - found.centre)
        log_present[here][nearer], nearness[here][nearer] = log_masses, relative[nearer]
    losses = (first + np.arange(length)) * spacing
    present, absent = np.exp(np.minimum(log_present, 0)), np.exp(np.minimum(log_present - losses, 0))
    beyond = OUTSIDE - math.expm1(steps * math.log1p(-pair.lost))
    alphas = np.append(np.cumsum(absent[::-1])[::-1] / absent.sum(), 0)  # loss at or above each point, and above all
    betas = np.append(0, np.cumsum(present) / present.sum())
    removed = np.interp(FALSE_POSITIVES, alphas[::-1], 1 - betas[::-1])
    added = np.interp(FALSE_POSITIVES, betas, 1 - alphas)
    return alphas, betas, float(max(removed, added)) + beyond


def _to_the_tail(step: Step, steps: int, tilt: float) -> float:
    """The tilt whose centre `tilt`'s sum reaches with SMALLEST_RATE, by Chernoff: to the right of -1, to the left of 0."""
    sign, here = (1 if tilt < 0 else -1), step.log_moment(tilt)

    def missing(log_size: float) -> float:
        to = tilt + sign * math.exp(log_size)
        rate = steps * ((to - tilt) * step.mean(to) - step.log_moment(to) + here)
        return rate + math.log(SMALLEST_RATE)

    scale = math.log(step.deviation(tilt) * math.sqrt(steps) + step.spacing)
    low, high = -scale - 5, -scale + 5
    if missing(high) < 0 or missing(low) > 0:  # the tail ends before, as where a step's loss is bounded
        return tilt
    return tilt + sign * math.exp(brentq(missing, low, high, xtol=0.05))


def _regret(alphas: np.ndarray, betas: np.ndarray, mu: float) -> float:
    """The smallest d with f(alpha + d) - d <= f_mu(alpha) everywhere: Gomez et al., definition 4.1.

    f is the curve of both roles together: the lower of the curve and its mirror image, convex (Dong et al., definition F.1).
    """
    half = alphas <= betas  # as far as the diagonal; the mirror image of the rest is the other candidate
    x, y = alphas[half][::-1], betas[half][::-1]
    other = ~half
    if other.any() and len(x):
        y = np.minimum(y, np.interp(x, betas[other], alphas[other], right=1.0))
    x, y = np.concatenate([[0.0], x, y[::-1], [1.0]]), np.concatenate([[1.0 if not len(y) else y[0]], y, x[::-1], [0.0]])
    tests = np.concatenate(
        [np.geomspace(1e-12, 1e-3, 1000), np.linspace(1e-3, 1 - 1e-3, 5000), 1 - np.geomspace(1e-3, 1e-12, 100)]
    )
    gaussian = ndtr(-ndtri(tests) - mu)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        met = np.all(np.interp(np.minimum(tests + middle, 1), x, y) - middle <= gaussian)
        low, high = (low, middle) if met else (middle, high)
    return high
