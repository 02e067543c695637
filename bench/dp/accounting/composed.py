"""T steps of a pair: the distribution of their summed privacy loss, by FFT around the losses that decide a bound.

The sum's distribution p is found as that of its exponentially tilted form, p e^(tilt * loss), whose centre the tilt moves to
where a bound is decided: rounding, which is relative to the largest value, is then relative to the bound as well and not to
1. (Plain FFT leaves some 1e-16 T everywhere, more than a delta of 1e-12 in a million steps.) The method is that of large
deviations (Esscher 1932); the grid and its error are Doroshenko et al.'s.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import minimize_scalar
from scipy.signal import lfilter

from bench.dp.accounting.onestep import TooFine

# Tilted mass that may lie outside the window; it is added to delta, a relative 1e-10 or so of it.
OUTSIDE = 1e-13
# Points of a window at most: 32 MiB an array, some 300 MB in all.
LONGEST = 2**22
# Of an FFT's largest value, a step: ten units in the last place.
ROUNDING = 2e-15


@dataclass(frozen=True)
class Tilted:
    """Masses of the summed loss, less a factor: mass = masses * exp(log_factor - tilt * (losses - centre))."""

    losses: np.ndarray
    masses: np.ndarray
    tilt: float
    centre: float
    log_factor: float


class Step:
    """One step's losses with their masses under one of the pair's two sides, and their cumulants under a tilt."""

    def __init__(self, first: int, spacing: float, masses: np.ndarray):
        kept = np.flatnonzero(masses)
        self.first, self.spacing = first + int(kept[0]), spacing
        self.masses = masses[kept[0] : kept[-1] + 1]
        self.losses = (self.first + np.arange(len(self.masses))) * spacing
        with np.errstate(divide="ignore"):
            self.log_masses = np.log(self.masses)

    def log_moment(self, tilt: float) -> float:
        """log E e^(tilt * loss)"""
        exponents = self.log_masses + tilt * self.losses
        largest = float(exponents.max())
        return largest + math.log(float(np.exp(exponents - largest).sum()))

    def tilt_for(self, steps: int, delta: float) -> float:
        """The tilt at which Chernoff's bound on the epsilon of `delta` is smallest: Renyi's order less 1."""

        def bound(log_tilt: float) -> float:
            tilt = math.exp(log_tilt)
            return (steps * self.log_moment(tilt) - math.log(delta)) / tilt

        # a ratio of a convex function to a linear one has one minimum; it lies between these, as losses are scaled
        root = math.sqrt(steps)
        widest, narrowest = self.losses[-1] - self.losses[0], self.deviation(0.0) + 0.01 * self.spacing
        bounds = math.log(1e-3 / (widest * root)), math.log(1e3 / (narrowest * root))
        found = minimize_scalar(bound, bounds=bounds, method="bounded", options={"xatol": 1e-3})
        return math.exp(found.x)

    def tilted(self, tilt: float) -> np.ndarray:
        return np.exp(self.log_masses + tilt * self.losses - self.log_moment(tilt))

    def mean(self, tilt: float) -> float:
        """Of one step's loss under the tilt."""
        return float((self.tilted(tilt) * self.losses).sum())  # no BLAS, whose threads wait on a busy machine

    def deviation(self, tilt: float) -> float:
        """Standard deviation of one step's loss under the tilt."""
        masses = self.tilted(tilt)
        mean = (masses * self.losses).sum()
        return math.sqrt(max(float((masses * (self.losses - mean) ** 2).sum()), 0.0))

    def composed(self, steps: int, tilt: float) -> Tilted:
        masses = self.tilted(tilt)
        centre = steps * float((masses * self.losses).sum())
        low, high = self._window(steps, tilt, centre)
        start, stop = math.floor(low / self.spacing), math.ceil(high / self.spacing) + 1
        start, stop = max(start, steps * self.first), min(stop, steps * (self.first + len(masses) - 1) + 1)
        if stop - start > LONGEST:
            raise TooFine
        length = next_fast_len(stop - start, real=True)
        folded = np.zeros(length)
        for begin in range(0, len(masses), length):
            part = masses[begin : begin + length]
            folded[: len(part)] += part
        found = irfft(rfft(folded) ** steps, length) if steps > 1 else folded
        found = np.roll(found, -((start - steps * self.first) % length))[: stop - start]
        losses = np.arange(start, stop) * self.spacing
        return Tilted(losses, np.maximum(found, 0), tilt, centre, steps * self.log_moment(tilt) - tilt * centre)

    def _window(self, steps: int, tilt: float, centre: float) -> tuple[float, float]:
        """Where all but OUTSIDE of the tilted sum lies, by Chernoff's bound on either side."""
        here = self.log_moment(tilt)
        deviation = max(self.deviation(tilt) * math.sqrt(steps), self.spacing)
        ends = [steps * self.losses[0], steps * self.losses[-1]]
        for side, sign in enumerate((-1, 1)):
            for size in np.geomspace(0.1, 40, 16) / deviation:
                moment = steps * (self.log_moment(tilt + sign * size) - here)
                end = sign * (moment - math.log(OUTSIDE / 2)) / size
                ends[side] = max(ends[0], end) if sign < 0 else min(ends[1], end)
        return min(ends[0], centre), max(ends[1], centre)


def epsilon(step: Step, lost: float, steps: int, delta: float) -> float:
    """The smallest epsilon at which the summed loss gives at most `delta`, 0 at least; inf where no finite one does.

    delta(epsilon) = E (1 - e^(epsilon - loss))_+ over the summed loss; what is lost counts in full. Rounding is taken for
    ten units in the last place a step, on the safe side: 1e-8 of delta in a million steps.
    """
    found = step.composed(steps, step.tilt_for(steps, delta))
    left = delta + math.expm1(steps * math.log1p(-lost))
    if left <= 0:
        return math.inf
    share = math.exp(min(math.log(left) - found.log_factor, 700))
    if steps > 1:
        share += steps * ROUNDING * math.expm1(found.losses[0] - found.losses[-1])
    with np.errstate(under="ignore"):
        weight = np.exp(np.clip(found.tilt * (found.centre - found.losses), -700, 700))
    outside = OUTSIDE * weight[-1]
    weight *= found.masses
    # from the largest loss down: mass at or above a grid point, and delta at it, a sum of positive terms
    above = np.cumsum(np.append(outside, weight[::-1]))
    decay = math.exp(-step.spacing)
    at = lfilter([1], [1, -decay], np.append(outside, above[1:-1] * -math.expm1(-step.spacing)))
    reached = int(np.searchsorted(at, share))  # as delta only grows
    losses = found.losses[::-1]
    if reached == len(at):
        return max(float(losses[-1]), 0.0)
    if reached == 0:
        return math.inf
    last = reached - 1  # epsilon lies between this grid point and the next smaller one
    below = -math.log1p(-(share - at[last]) / (above[last + 1] - at[last]))
    return max(float(losses[last]) - below, 0.0)
