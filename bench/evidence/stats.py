"""Summaries over seeds: means with t intervals, and differences paired by seed."""

import math

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
ARM = ["recipe", "arch", "variant", "epsilon"]


def interval(values: np.ndarray) -> tuple[float, float]:
    """Two-sided 95 % Student t interval of the mean of `values` (n,); NaN where n < 2."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def paired(first: pd.Series, second: pd.Series) -> dict:
    """The difference first - second of two series indexed by seed, over the seeds that both have.

    `correlation` is Pearson's between the paired values; pairing pays when it is positive. `pairing_gain` is the ratio
    of the variance that unpaired seeds would give to the paired one.
    """
    both = pd.concat([first, second], axis=1, join="inner").to_numpy(dtype=float)  # (n, 2)
    difference = both[:, 0] - both[:, 1]
    n = len(difference)
    low, high = interval(difference)
    sd = np.std(both, axis=0, ddof=1) if n > 1 else np.full(2, math.nan)
    variance = np.var(difference, ddof=1) if n > 1 else math.nan
    varies = n > 2 and bool((sd > 0).all())
    return {
        "difference_n": n,
        "difference": float(np.mean(difference)) if n else math.nan,
        "difference_low": low,
        "difference_high": high,
        "correlation": float(np.corrcoef(both.T)[0, 1]) if varies else math.nan,
        "pairing_gain": float((sd**2).sum() / variance) if varies and variance > 0 else math.nan,
    }


def correlation_interval(correlation: float, n: int) -> tuple[float, float]:
    """95 % interval of Pearson's correlation of `n` pairs, by Fisher's transformation; NaN where n < 4."""
    if n < 4 or math.isnan(correlation):
        return math.nan, math.nan
    centre, half = math.atanh(correlation), stats.norm.ppf((1 + LEVEL) / 2) / math.sqrt(n - 3)
    return math.tanh(centre - half), math.tanh(centre + half)


def by_pair(runs: pd.DataFrame) -> pd.Series:
    """Accuracies by what makes two runs a pair: the same seed and the same data."""
    return runs.set_index(["seed", "dataset_digest"])["accuracy"].astype(float)


def mixed_data(summary: pd.DataFrame) -> list[str]:
    """A sentence for every arm of a summary whose runs were made from data that differ."""
    return [
        f"{row['study']}: note: the runs of {'/'.join(row[name] for name in ARM[:3])}/eps{row['epsilon']} were made from "
        f"data that differ ({row['dataset_digests']}): its mean is over all of them, its differences are of equal data"
        for row in summary.to_dict("records")
        if ";" in row["dataset_digests"]
    ]


def summarise(runs: pd.DataFrame, study: str, against: str = "baseline") -> pd.DataFrame:
    """A row per (recipe, arch, variant, epsilon) of `runs`, the rows of one study as `columns.frame` gives them.

    Accuracy statistics are over completed runs; diverged ones are counted, never averaged. Differences are to variant
    `against` at the same recipe, arch and epsilon, paired by seed on the same data. `dataset_digests` are those of all runs,
    twelve digits each: where there are several, the mean is over data that differ.
    """
    rows = []
    for key, group in runs.groupby(ARM, sort=False):
        arm = dict(zip(ARM, key, strict=True))
        done = group[group["status"] == "completed"]
        accuracy = by_pair(done)
        low, high = interval(accuracy.to_numpy())
        row = {
            "study": study,
            **arm,
            "n": len(done),
            "diverged": len(group) - len(done),
            "mean": accuracy.mean(),
            "sd": accuracy.std(ddof=1),
            "low": low,
            "high": high,
            "best_epoch_mean": done["best_epoch_accuracy"].astype(float).mean(),
            "without_average_mean": done["accuracy_without_average"].astype(float).mean(),
        }
        if arm["variant"] == against:
            row["against"] = ""
        else:
            other = runs[
                (runs[["recipe", "arch", "epsilon"]] == [arm["recipe"], arm["arch"], arm["epsilon"]]).all(axis=1)
                & (runs["variant"] == against)
                & (runs["status"] == "completed")
            ]
            row |= {"against": against} | paired(accuracy, by_pair(other))
        row |= {
            "budget": group["budget"].iloc[0],
            "private": bool(group["private"].all()),
            "epsilon_rdp": group["epsilon_rdp"].max(),
            "epsilon_pld": group["epsilon_pld"].max(),
            "noise_multiplier": group["noise_multiplier"].max(),
            "parameters": group["parameters"].iloc[0],
            "seconds": done["seconds"].median(),
            "images_per_second": done["images_per_second"].median(),
            "dataset": "; ".join(sorted(group["dataset"].unique())),
            "dataset_digests": "; ".join(sorted(digest[:12] for digest in group["dataset_digest"].unique())),
            "device": "; ".join(sorted(group["device"].unique())),
            "test_split_steers": bool(group["test_split_steers"].any()),
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


SUMMARY_COLUMNS = [
    "study", *ARM, "n", "diverged", "mean", "sd", "low", "high", "best_epoch_mean", "without_average_mean",
    "against", "difference_n", "difference", "difference_low", "difference_high", "correlation", "pairing_gain",
    "budget", "private", "epsilon_rdp", "epsilon_pld", "noise_multiplier", "parameters", "seconds", "images_per_second",
    "dataset", "dataset_digests", "device", "test_split_steers",
]  # fmt: skip
