"""A study's runs as a table of its arms: means over seeds, differences to one variant, and what so many pairs can see."""

import math

import numpy as np
import pandas as pd

from bench.evidence import images, stats, two_way
from bench.plan.spec import RUN_ID

ARM = ["recipe", "arch", "variant", "epsilon"]
Bits = dict[tuple[str, str], np.ndarray]  # (run id, digest of its data) -> bool (test images,)
POINT = 1.0  # of accuracy: what the paper's headline claims


def mixed_data(summary: pd.DataFrame) -> list[str]:
    """A sentence for every arm of a summary whose runs were made from data that differ."""
    return [
        f"{row['study']}: note: the runs of {'/'.join(row[name] for name in ARM[:3])}/eps{row['epsilon']} were made from "
        f"data that differ ({row['dataset_digests']}): its mean is over all of them, its differences are of equal data"
        for row in summary.to_dict("records")
        if ";" in row["dataset_digests"]
    ]


def of_study(runs: pd.DataFrame, study: str, bits: Bits, against: str = "baseline") -> pd.DataFrame:
    """A row per (recipe, arch, variant, epsilon) of `runs`, the rows of one study as `columns.frame` gives them.

    Accuracy statistics are over completed runs; diverged ones are counted, never averaged. Differences are to variant
    `against` at the same recipe, arch and epsilon, paired by seed on the same data. `dataset_digests` are those of all runs,
    twelve digits each: where there are several, the mean is over data that differ. `bits` say which test images a run got
    right (see `bits_of`); without those of a pair, what rests on images is NaN. `difference_p_holm` is adjusted over all
    differences of the study.
    """
    rows = []
    for key, group in runs.groupby(ARM, sort=False):
        arm = dict(zip(ARM, key, strict=True))
        done = group[group["status"] == "completed"]
        accuracy = stats.by_pair(done)
        low, high = stats.interval(accuracy.to_numpy())
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
            theirs = stats.by_pair(other)
            row |= {"against": against} | _difference(accuracy, theirs)
            row |= _by_images(done, other, bits)
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
    _adjust(rows)
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def bits_of(records: list[dict]) -> Bits:
    """Whether a run got each test image right, by run id and digest of its data; runs without are left out."""
    found = ((record["run"]["id"], record["data"]["digest"], images.unpack(record)) for record in records)
    return {(run, digest): bits for run, digest, bits in found if bits is not None}


def _difference(mine: pd.Series, theirs: pd.Series) -> dict:
    found = stats.paired(mine, theirs)
    return found | {
        "difference_p": found["p"],
        "pairs_for_one_point": stats.pairs_needed(found["difference_sd"], POINT),
        "improvement": stats.improvement(mine.to_numpy(), theirs.to_numpy()),
    }


def _by_images(mine: pd.DataFrame, theirs: pd.DataFrame, bits: Bits) -> dict:
    """What the test images tell of the pairs that have theirs."""
    first, second = (_by_seed(runs, bits) for runs in (mine, theirs))
    values = two_way.differences(first, second)
    low, high = two_way.interval(100.0 * values) if len(values) > 1 else (math.nan, math.nan)
    told = [
        np.sign(first[seed].mean() - second[seed].mean())
        for seed in first
        if seed in second and two_way.mcnemar_p(first[seed], second[seed]) < 1 - stats.LEVEL
    ]
    known = len(values) > 0
    return {
        "two_way_low": low,
        "two_way_high": high,
        "mcnemar_better": told.count(1) if known else math.nan,
        "mcnemar_worse": told.count(-1) if known else math.nan,
    }


def _by_seed(runs: pd.DataFrame, bits: Bits) -> dict[tuple, np.ndarray]:
    found = {}
    for row in runs[[*ARM, "seed", "dataset_digest"]].to_dict("records"):
        run = RUN_ID.format(**row)
        if (run, row["dataset_digest"]) in bits:
            found[row["seed"], row["dataset_digest"]] = bits[run, row["dataset_digest"]]
    return found


def _adjust(rows: list[dict]) -> None:
    tested = [row for row in rows if not math.isnan(row.get("difference_p", math.nan))]
    for row, p in zip(tested, stats.holm([row["difference_p"] for row in tested]), strict=True):
        row["difference_p_holm"] = p


SUMMARY_COLUMNS = [
    "study", *ARM, "n", "diverged", "mean", "sd", "low", "high", "best_epoch_mean", "without_average_mean",
    "against", "difference_n", "difference", "difference_low", "difference_high",
    "difference_sd", "difference_p", "difference_p_holm", "detectable", "pairs_for_one_point", "improvement",
    "two_way_low", "two_way_high", "mcnemar_better", "mcnemar_worse", "correlation", "pairing_gain",
    "budget", "private", "epsilon_rdp", "epsilon_pld", "noise_multiplier", "parameters", "seconds", "images_per_second",
    "dataset", "dataset_digests", "device", "test_split_steers",
]  # fmt: skip
