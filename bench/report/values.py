"""The table of values behind each figure of what runs measured: for readers who do not see it, and for copying."""

import pandas as pd

from bench.report.dynamics import CLIPPING
from bench.report.formats import NOTHING, bounds, number, significant
from bench.report.words import NOT_PRIVATE, epsilon

WHO = [("Variant", ""), ("ε", "n")]
MOST = 8  # steps of a table of curves; of more, evenly chosen ones, the last among them


def curves(points: pd.DataFrame) -> dict:
    """`columns` (name, class) and `rows` of text: mean accuracy in percent, a row an arm, a column a step."""
    points, steps = _marked(points), _steps(points)
    means = {key: arm.groupby("step")["accuracy"].mean() for key, arm in points.groupby(_arm(points), sort=False)}
    rows = [[*_who(key), *(number(mean.get(step)) for step in steps)] for key, mean in means.items()]
    return _table(points, [(f"Step {step}", "n") for step in steps], rows)


def difference_curves(points: pd.DataFrame) -> dict:
    """What `over_steps.differences` gives, a row an arm, a column a step: difference in points and interval."""
    points, steps = _marked(points), _steps(points)
    rows = []
    for key, arm in points.groupby(_arm(points), sort=False):
        at = {row["step"]: row for row in arm.to_dict("records")}
        told = {step: f"{number(row['difference'], sign=True)}{bounds(row, sign=True)}" for step, row in at.items()}
        rows.append([*_who(key), f"{arm['pairs'].max()}", *(told.get(step, NOTHING) for step in steps)])
    return _table(points, [("Pairs", "n"), *((f"Step {step}", "n") for step in steps)], rows)


def clipping(points: pd.DataFrame) -> dict:
    """What gradients were like at an arm's last evaluation."""
    points = _marked(points)
    last = points[points["step"] == points.groupby(_arm(points))["step"].transform("max")]
    means = last.groupby(_arm(points), sort=False)[list(CLIPPING)].mean()
    rows = [[*_who(key), *(significant(mean[name]) for name in CLIPPING)] for key, mean in means.iterrows()]
    return _table(points, [(f"{name[0].upper()}{name[1:]}", "n") for name in CLIPPING.values()], rows)


def mixing(points: pd.DataFrame) -> dict:
    """Mean standard deviations of skip, branch and sum, a row an arm and block."""
    points = _marked(points)
    means = points.groupby([*_arm(points), "block"], sort=False)[["skip", "branch", "sum"]].mean()
    rows = [[*_who(key[:-1]), key[-1], *map(number, mean)] for key, mean in means.iterrows()]
    return _table(points, [("Block", ""), ("Skip", "n"), ("Branch", "n"), ("Sum", "n")], rows)


def ratios(points: pd.DataFrame) -> dict:
    """What `dynamics.ratios` gives, a row an arm."""
    points = _marked(points)
    rows = [
        [*_who(tuple(row[name] for name in _arm(points))), number(row["ratio"]), number(row["accuracy"])]
        for row in points.to_dict("records")
    ]
    return _table(points, [("Branch over skip", "n"), ("Accuracy, %", "n")], rows)


def _marked(points: pd.DataFrame) -> pd.DataFrame:
    """Variants whose epsilon is nominal say so."""
    nominal = (points["epsilon"] != "inf") & ~points["private"].astype(bool)
    return points.assign(variant=points["variant"].where(~nominal, points["variant"] + f", {NOT_PRIVATE}"))


def _steps(points: pd.DataFrame) -> list:
    known = sorted(points["step"].unique())
    return known[::-1][:: -(-len(known) // MOST)][::-1]


def _arm(points: pd.DataFrame) -> list[str]:
    """The columns that tell arms apart: recipe and network where there are several."""
    return ["variant", "epsilon", *(name for name in ("recipe", "arch") if len(points[name].unique()) > 1)]


def _who(key: tuple) -> list[str]:
    variant, budget, *rest = key
    return [variant, epsilon(budget), *rest]


def _table(points: pd.DataFrame, columns: list[tuple[str, str]], rows: list[list[str]]) -> dict:
    named = {"recipe": ("Recipe", ""), "arch": ("Network", "")}
    return {"columns": [*WHO, *(named[name] for name in _arm(points)[2:]), *columns], "rows": rows}
