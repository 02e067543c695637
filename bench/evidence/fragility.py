"""How fragile a verdict is: the smallest number of pairs without which its interval would say something else."""

import math
from itertools import combinations

import numpy as np

from bench.evidence.stats import t_quantile

SETS = 200_000  # of pairs, looked at one by one; beyond that only those at the two ends of the order


def removal(values: np.ndarray, low: float, high: float) -> tuple[int | None, bool]:
    """(smallest number of `values` (n,) whose removal moves the 95 % interval out of its place, whether that is exact).

    The places are: within the range from `low` to `high`, outside of it, or neither. Every set of so many pairs is tried
    while there are at most SETS; of more, those that take the smallest and the largest values, so that the number found is
    one that is enough, perhaps not the smallest. None where no removal does it that leaves two pairs, or n < 3.
    """
    values = np.sort(np.asarray(values, dtype=float))
    n = len(values)
    if n < 3:
        return None, True
    place, exact = _places(values[None, :], low, high)[0], True
    for k in range(1, n - 1):
        if math.comb(n, k) <= SETS:
            out = np.array(list(combinations(range(n), k)))
        else:
            exact = False
            out = np.array([[*range(i), *range(n - k + i, n)] for i in range(k + 1)])
        kept = np.ones((len(out), n), dtype=bool)
        np.put_along_axis(kept, out, False, axis=1)
        rest = np.broadcast_to(values, kept.shape)[kept].reshape(len(out), n - k)
        if (_places(rest, low, high) != place).any():
            return k, exact
    return None, exact


def _places(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 where the interval of each row of `values` (sets, n) lies within the range, -1 outside, 0 neither."""
    n = values.shape[1]
    mean, half = values.mean(1), t_quantile(n - 1) * values.std(1, ddof=1) / math.sqrt(n)
    inside = (low < mean - half) & (mean + half < high)
    outside = (mean + half < low) | (mean - half > high)
    return inside.astype(int) - outside.astype(int)
