"""Summaries over seeds: means with t intervals, differences paired by seed, and what so many pairs can see."""

import functools
import math

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

LEVEL = 0.95
POWER = 0.80


def interval(values: np.ndarray) -> tuple[float, float]:
    """Two-sided 95 % Student t interval of the mean of `values` (n,); NaN where n < 2."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = t_quantile(n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return float(np.mean(values) - half), float(np.mean(values) + half)


@functools.cache
def t_quantile(freedom: float) -> float:
    """What a 95 % interval reaches to either side, in standard errors, at so many degrees of freedom of Student's t."""
    return stats.t.ppf((1 + LEVEL) / 2, freedom)


def paired(first: pd.Series, second: pd.Series) -> dict:
    """As `contrast` of first - second, two series indexed by seed, over the seeds that both have, and what pairing buys.

    `correlation` is Pearson's between the paired values; pairing pays when it is positive. `pairing_gain` is the ratio
    of the variance that unpaired seeds would give to the paired one.
    """
    found = contrast([(1, first), (-1, second)])
    both = pd.concat([first, second], axis=1, join="inner").to_numpy(dtype=float)  # (n, 2)
    sd = np.std(both, axis=0, ddof=1) if len(both) > 1 else np.full(2, math.nan)
    varies = len(both) > 2 and bool((sd > 0).all())
    gains = varies and found["difference_sd"] > 0
    return found | {
        "correlation": float(np.corrcoef(both.T)[0, 1]) if varies else math.nan,
        "pairing_gain": float((sd**2).sum() / found["difference_sd"] ** 2) if gains else math.nan,
    }


def contrast(arms: list[tuple[int, pd.Series]], range_low: float = 0.0, range_high: float = math.inf) -> dict:
    """The mean over pairs of the signed sum of `arms`, (sign, accuracies by pair), with interval and p.

    `p` is two-sided, of the t test against the end of the range that the interval has to leave behind: below 5 % exactly
    when the 95 % interval lies within the range or outside of it.
    """
    both = pd.concat([sign * accuracy for sign, accuracy in arms], axis=1, join="inner")
    values = both.to_numpy(dtype=float).sum(1)  # (n,)
    n = len(values)
    low, high = interval(values)
    sd = float(np.std(values, ddof=1)) if n > 1 else math.nan
    return {
        "difference_n": n,
        "difference": float(np.mean(values)) if n else math.nan,
        "difference_low": low,
        "difference_high": high,
        "difference_sd": sd,
        "p": _p(values, range_low, range_high),
        "detectable": detectable(sd, n),
    }


def _p(values: np.ndarray, low: float, high: float) -> float:
    n = len(values)
    if n < 2 or not np.std(values):
        return math.nan
    error = np.std(values, ddof=1) / math.sqrt(n)
    above_low, below_high = ((np.mean(values) - low) / error, (high - np.mean(values)) / error)  # within: both large
    inside = stats.t.sf(min(above_low, below_high), n - 1)
    outside = stats.t.sf(max(-above_low, -below_high), n - 1)
    return float(min(1.0, 2 * min(inside, outside)))


def holm(p: list[float] | np.ndarray) -> list[float]:
    """The p values adjusted so that all of them together are wrong with the probability of one (Holm 1979).

    statsmodels has it, too, and searches all of the memory for garbage at every call.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted.tolist()


def detectable(sd: float, n: int) -> float:
    """The true difference in points that a two-sided paired t test at 5 % finds with 80 % probability, given `n` pairs.

    `sd` is that of the paired differences; NaN where n < 2 or they do not vary.
    """
    if n < 2 or not sd > 0:
        return math.nan
    return float(_detectable(n) * sd)


@functools.cache
def _detectable(n: int) -> float:
    """In units of the standard deviation."""
    return TTestPower().solve_power(nobs=n, alpha=1 - LEVEL, power=POWER)


def pairs_needed(sd: float, points: float) -> float:
    """How many pairs see a true difference of `points` with 80 % probability in such a test; NaN where sd is not above 0."""
    if not sd > 0:
        return math.nan
    # the test's upper end: beyond the lower one lies next to nothing, which scipy gives as NaN where differences hardly vary
    upper = {"alpha": (1 - LEVEL) / 2, "alternative": "larger"}
    least = 2  # of a t test; a search needs to know that already two are enough
    if TTestPower().power(points / sd, nobs=least, **upper) >= POWER:
        return least
    found = TTestPower().solve_power(effect_size=points / sd, power=POWER, **upper)
    return math.ceil(found - 1e-3)  # what the search is good for


def improvement(first: np.ndarray, second: np.ndarray) -> float:
    """Probability that a run of `first` (n,) is better than one of `second` (m,), ties half (Agarwal et al. 2021)."""
    if not len(first) or not len(second):
        return math.nan
    return float((np.sign(first[:, None] - second[None, :]) + 1).mean() / 2)


def correlation_interval(correlation: float, n: int) -> tuple[float, float]:
    """95 % interval of Pearson's correlation of `n` pairs, by Fisher's transformation; NaN where n < 4."""
    if n < 4 or math.isnan(correlation):
        return math.nan, math.nan
    centre, half = math.atanh(correlation), stats.norm.ppf((1 + LEVEL) / 2) / math.sqrt(n - 3)
    return math.tanh(centre - half), math.tanh(centre + half)


def differences_by_pair(rows: pd.DataFrame, pair: list[str], against: str) -> pd.DataFrame:
    """The rows of other variants than `against` that have a partner there, equal in `pair`, and `difference` in accuracy."""
    theirs = rows[rows["variant"] == against][[*pair, "accuracy"]]
    both = rows[rows["variant"] != against].merge(theirs, on=pair, suffixes=("", "_against"))
    return both.assign(difference=(both["accuracy"] - both["accuracy_against"]).astype(float))


def by_pair(runs: pd.DataFrame) -> pd.Series:
    """Accuracies by what makes two runs a pair: the same seed and the same data."""
    return runs.set_index(["seed", "dataset_digest"])["accuracy"].astype(float)
