"""Differences while runs train: a lead that stays, one that grows, or a head start that the others catch up with?"""

import pandas as pd

from bench.evidence import columns
from bench.evidence.stats import differences_by_pair, interval

ARM = ["recipe", "arch", "variant", "epsilon"]
PAIR = ["recipe", "arch", "epsilon", "seed", "dataset_digest", "step"]


def evaluations(records: list[dict]) -> pd.DataFrame:
    """A row an evaluation of the completed records: its arm, `seed`, `private`, `dataset_digest`, and what was measured."""
    done = [record for record in records if record["status"] == "completed"]
    keys = [columns.row(record, (*ARM, "seed", "private", "dataset_digest")) for record in done]
    return pd.DataFrame([arm | point for arm, record in zip(keys, done, strict=True) for point in record["curve"]])


def differences(points: pd.DataFrame, against: str = "baseline") -> pd.DataFrame:
    """A row an arm and step: `difference` of accuracy to `against` in points, mean of so many `pairs`, `low` and `high`.

    `points` are rows of `evaluations`, paired by seed and data. The intervals hold for one step each, not for all together.
    """
    if points.empty:
        return points
    rows = []
    for key, pairs in differences_by_pair(points, PAIR, against).groupby([*ARM, "private", "step"], sort=False):
        low, high = interval(pairs["difference"].to_numpy())
        found = {"difference": pairs["difference"].mean(), "low": low, "high": high, "pairs": len(pairs)}
        rows.append(dict(zip([*ARM, "private", "step"], key, strict=True)) | found)
    return pd.DataFrame(rows)
