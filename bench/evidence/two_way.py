"""Differences over seeds and test images at once: what other seeds AND other test images of the same kind would give.

A paired difference is the mean of d[s, i], 1, 0 or -1: whether seed s got image i right with one variant and not with the
other. Intervals over seeds alone speak of these test images. Here seeds and images are crossed random effects, and the
variance of the mean is taken from the mean squares of the two-way layout, with Satterthwaite's degrees of freedom
(Satterthwaite 1946; Searle, Casella and McCulloch 1992, section 4.7). Simulated, they cover the truth in 95 to 96 % of cases,
and in up to 98.5 % where seeds do not differ at all; the crossed bootstrap (Owen 2007), which counts what is left over
several times, covered 97 to 100 %, and intervals over seeds alone down to 81 % where test images matter.
"""

import math

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar

from bench.evidence.stats import t_quantile


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of `values` (seeds, images), in its units; NaN with fewer than 2 of either."""
    seeds, images = values.shape
    if seeds < 2 or images < 2:
        return math.nan, math.nan
    mean = values.mean()
    of_seeds, of_images = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - of_seeds[:, None] - of_images[None, :]
    squares = [
        (images * np.square(of_seeds).sum() / (seeds - 1), seeds - 1),
        (seeds * np.square(of_images).sum() / (images - 1), images - 1),
        (np.square(rest).sum() / ((seeds - 1) * (images - 1)), (seeds - 1) * (images - 1)),
    ]
    of_seeds, of_images, of_rest = (square for square, _ in squares)
    # neither effect has less than no variance: the mean's is then at least that of one effect alone
    total = max(of_seeds + of_images - of_rest, of_seeds, of_images)
    if not total:
        return float(mean), float(mean)
    freedom = total**2 / sum(square**2 / degrees for square, degrees in squares)
    half = t_quantile(max(freedom, 1.0)) * math.sqrt(total / (seeds * images))
    return float(mean - half), float(mean + half)


def differences(first: dict[int, np.ndarray], second: dict[int, np.ndarray]) -> np.ndarray:
    """1, 0 or -1 of every seed and image, int8 (seeds, images), over the seeds that both have."""
    common = [seed for seed in first if seed in second and len(first[seed]) == len(second[seed])]
    rows = [first[seed].astype(np.int8) - second[seed].astype(np.int8) for seed in common]
    return np.stack(rows) if rows else np.zeros((0, 0), np.int8)


def mcnemar_p(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test that two runs, bool (images,) each, are right equally often on such images."""
    only = [int((first & ~second).sum()), int((second & ~first).sum())]
    return float(mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue) if sum(only) else 1.0
