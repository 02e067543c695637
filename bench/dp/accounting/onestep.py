"""One step of the Poisson-subsampled Gaussian mechanism as a pair of distributions on a grid of privacy losses.

The pair dominates the mechanism's in the sense of Blackwell, hence every bound drawn from it holds, in both directions:
"connect the dots" (Doroshenko et al. 2022, arXiv 2207.04380) splits what lies between two grid points over both so that
its mass under either distribution stays, and the far tails count as perfectly distinguished.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

# Standard deviations beyond which outputs count as distinguished for sure: a mass of 5e-26 a step, of 1e-19 in a million.
REACH = 10.5
# Grid points of one step at most: some 200 MB while they are made.
LONGEST = 2**19
LOST = 2 * float(ndtr(-REACH))
# Nodes and weights on [-1, 1] of the quadrature in a cell that is narrow against the noise; exact to degree 7.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True)
class Pair:
    """Masses `upper` (present) and `lower` (absent) at losses (first + i) * spacing; `lost` lies beyond."""

    first: int
    spacing: float
    upper: np.ndarray
    lower: np.ndarray
    lost: float

    @property
    def losses(self) -> np.ndarray:
        return (self.first + np.arange(len(self.upper))) * self.spacing

    @property
    def reversed(self) -> "Pair":
        """The pair with both roles exchanged: what a record's addition reveals, where this is its removal."""
        return Pair(-(self.first + len(self.upper) - 1), self.spacing, self.lower[::-1], self.upper[::-1], self.lost)


class TooFine(Exception):
    """The grid would have more points than fit into memory and time: it must be coarser."""


@dataclass(frozen=True)
class Gaussians:
    """Outputs x of a step, along the record's direction and in units of its clipped norm.

    Present: N(1, sigma^2) with probability q, else N(0, sigma^2). Absent: N(0, sigma^2) or, where the record is `replaced`
    by another (replace-one), N(-1, sigma^2) with probability q, else N(0, sigma^2): the worst case of Zhu et al. 2022.
    """

    sigma: float
    q: float
    replaced: bool = False

    @property
    def reach(self) -> tuple[float, float]:
        tail = REACH * self.sigma
        return (-1 if self.replaced else 0) - tail, 1 + tail

    @property
    def scale(self) -> float:
        """Standard deviation of a step's loss where the record is absent or present, whichever is smaller."""
        x = np.arange(self.reach[0], self.reach[1], self.sigma / 8)
        log_absent = -0.5 * (x / self.sigma) ** 2 + (self.ratio(x, -1) if self.replaced else 0)
        losses, deviations = self.loss(x), []
        for log_density in (log_absent, self.log_density(x)):
            weight = np.exp(log_density - log_density.max())
            mean = weight @ losses / weight.sum()
            deviations.append(math.sqrt(weight @ (losses - mean) ** 2 / weight.sum()))
        return min(deviations)

    @property
    def range(self) -> float:
        """Between the smallest and the largest loss of the outputs in reach."""
        low, high = self.loss(np.array(self.reach))
        return float(high - low)

    def ratio(self, x: np.ndarray, sign: int) -> np.ndarray:
        """log((1 - q) + q N(sign, sigma^2)(x) / N(0, sigma^2)(x))"""
        exponent = (2 * sign * x - 1) / (2 * self.sigma**2)
        if self.q == 1:
            return exponent
        # three forms, each where it keeps its digits
        middle = np.log1p(self.q * np.expm1(np.clip(exponent, -1, 30)))
        low = np.log1p(-self.q) + np.log1p(self.q / (1 - self.q) * np.exp(np.minimum(exponent, -1)))
        high = exponent + np.log(self.q) + np.log1p((1 - self.q) / self.q * np.exp(-np.maximum(exponent, 30)))
        return np.where(exponent < -1, low, np.where(exponent < 30, middle, high))

    def loss(self, x: np.ndarray) -> np.ndarray:
        """Privacy loss at output x, in nats; it grows with x."""
        return self.ratio(x, 1) - (self.ratio(x, -1) if self.replaced else 0)

    def output(self, loss: np.ndarray) -> np.ndarray:
        """Where the privacy loss is `loss`; -inf where it is larger everywhere."""
        square = self.sigma**2
        if self.q == 1:
            return square * loss / 2 if self.replaced else square * loss + 0.5
        if self.replaced:  # sinh(x / s^2 - loss / 2) = a sinh(loss / 2), a = e^(1 / 2 s^2) (1 - q) / q
            half = np.abs(loss) / 2
            with np.errstate(divide="ignore"):
                log_sinh = half + np.log(-np.expm1(-2 * half)) - math.log(2)
            log_argument = log_sinh + 1 / (2 * square) + math.log1p(-self.q) - math.log(self.q)
            arsinh = np.where(log_argument < 30, np.arcsinh(np.exp(np.minimum(log_argument, 30))), log_argument + math.log(2))
            return square * np.sign(loss) * (arsinh + half)
        with np.errstate(divide="ignore", invalid="ignore"):
            small = np.log1p(np.expm1(np.minimum(loss, 30)) / self.q)
            large = np.maximum(loss, 30) + np.log1p(-(1 - self.q) * np.exp(-np.maximum(loss, 30))) - math.log(self.q)
            found = square * np.where(loss < 30, small, large) + 0.5
        return np.where(np.isnan(found), -np.inf, found)

    def mass(self, edges: np.ndarray, sign: int) -> np.ndarray:
        """Of N(0, sigma^2) shifted by `sign` with probability q, between successive `edges`."""
        return (1 - self.q) * _between(edges / self.sigma) + self.q * _between((edges - sign) / self.sigma)

    def present(self, edges: np.ndarray) -> np.ndarray:
        return self.mass(edges, 1)

    def absent(self, edges: np.ndarray) -> np.ndarray:
        return self.mass(edges, -1) if self.replaced else _between(edges / self.sigma)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Of the output where the record is present, up to a constant."""
        return -0.5 * (x / self.sigma) ** 2 + self.ratio(x, 1)


def _between(edges: np.ndarray) -> np.ndarray:
    """Standard normal mass between successive edges, to full precision in both tails."""
    low, high = edges[:-1], edges[1:]
    return np.where(low + high < 0, ndtr(high) - ndtr(low), ndtr(-low) - ndtr(-high))


@lru_cache(maxsize=8)
def on_grid(gaussians: Gaussians, spacing: float) -> Pair:
    """The pair of one step at losses that are multiples of `spacing`."""
    start, end = gaussians.reach
    first = math.floor(float(gaussians.loss(np.float64(start))) / spacing)
    last = math.ceil(float(gaussians.loss(np.float64(end))) / spacing)
    if last - first > LONGEST:
        raise TooFine
    losses = np.arange(first, last + 1) * spacing
    edges = gaussians.output(losses)
    edges[-1] = max(edges[-1], edges[-2])
    present, absent = gaussians.present(edges), gaussians.absent(edges)
    # of a cell's mass, the share that goes to its upper end: mean of 1 - e^(low - loss) over 1 - e^-spacing
    share = np.zeros(len(present))
    width = np.diff(edges) / gaussians.sigma
    narrow = width < 0.5  # there by quadrature: masses of small cells, once subtracted, would leave rounding errors only
    if narrow.any():
        low, high = edges[:-1][narrow], edges[1:][narrow]
        x = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * NODES
        log_density = gaussians.log_density(x)
        weight = WEIGHTS * np.exp(log_density - log_density.max(axis=1, keepdims=True))
        rise = -np.expm1(losses[:-1][narrow][:, None] - gaussians.loss(x))
        share[narrow] = (weight * rise).sum(axis=1) / weight.sum(axis=1) / -math.expm1(-spacing)
    wide = ~narrow & (present > 0)
    with np.errstate(over="ignore"):
        rise = 1 - absent[wide] / present[wide] * np.exp(losses[:-1][wide])
    share[wide] = rise / -math.expm1(-spacing)
    to_upper = np.clip(share, 0, 1) * present
    upper, lower = np.zeros(len(losses)), np.zeros(len(losses))
    upper[:-1] += present - to_upper
    upper[1:] += to_upper
    # the pair's losses are the grid's: lower = upper e^-loss
    positive = upper > 0
    lower[positive] = np.exp(np.log(upper[positive]) - losses[positive])
    # what rounding left of the sums goes, so that a million steps do not add it up
    return Pair(first, spacing, upper / upper.sum(), lower / lower.sum(), LOST)
