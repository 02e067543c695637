"""The tables behind the page as addresses that hold their CSV; of curves and mixing the means over seeds."""

from urllib.parse import quote

import pandas as pd

from bench.evidence import columns, tables
from bench.report.dictionary import COLUMNS
from bench.report.dynamics import clipping_points

AS_IS = ",;:/=+()[]@!*"  # a quarter shorter than base64, as nearly all of a table stands for itself
ARM = ["recipe", "arch", "variant", "epsilon"]


def measured(made: list[dict]) -> dict[str, pd.DataFrame]:
    """`curves`, a row an arm and step, and `mixing`, a row an arm and block, of completed records: means over seeds."""
    done = [record for record in made if record["status"] == "completed"]
    arms = [columns.row(record, ARM) for record in done]
    curves, mixing = [], []
    for arm, record in zip(arms, done, strict=True):
        clipped = {point["step"]: point for point in clipping_points(record)}
        curves += [arm | point | clipped.get(point["step"], {}) for point in record["curve"]]
        mixing += [arm | point for point in record["scale_mixing"]]
    return {"curves": _means(curves, "step", "curves"), "mixing": _means(mixing, "block", "mixing")}


def _means(rows: list[dict], by: str, name: str) -> pd.DataFrame:
    wanted = [column for column in COLUMNS[name] if column not in (*ARM, "study", by, "seeds")]
    if not rows:
        return pd.DataFrame(columns=[*ARM, by, "seeds", *wanted])
    table = pd.DataFrame(rows).reindex(columns=[*ARM, by, *wanted])
    table[wanted] = table[wanted].astype(float)
    groups = table.groupby([*ARM, by], sort=False)
    return groups[wanted].mean().assign(seeds=groups.size()).reset_index()[[*ARM, by, "seeds", *wanted]]


def address(text: str) -> str:
    return f"data:text/csv;charset=utf-8,{quote(text, safe=AS_IS)}"


def rounded(table: pd.DataFrame) -> str:
    """CSV with five digits: a mean over seeds says no more."""
    return tables.text(table.map(lambda value: float(f"{value:.5g}") if isinstance(value, float) else value))
