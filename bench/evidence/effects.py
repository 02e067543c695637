"""What ScaleNorm changes, in points: one row for every task, network and epsilon that has pairs, and what was published.

An effect is the accuracy of variant `scalenorm` less that of `baseline`. The rows are made from the summary, whose pairs
share seed and data, and from published means with and without the layer, which share neither.
"""

import math
from collections import Counter

import pandas as pd

from bench.evidence.stats import t_quantile
from bench.evidence.summary import POINT
from bench.plan.spec import Run, Study, epsilon_text

VARIANT, AGAINST = "scalenorm", "baseline"
PLACE = ["dataset", "recipe", "arch", "epsilon"]


def ours(summary: pd.DataFrame, studies: dict[str, Study]) -> list[dict]:
    """The effect at every dataset, recipe, network and epsilon that runs keep, by the study with the most pairs.

    Studies share runs, so that their rows about one place are not independent; of equal ones the later counts, which was
    planned when the other was known. Studies that hold optimizers or precisions against each other try no setting. Each has
    PLACE, `private` (epsilon is finite), `alone` (no other recipe has its dataset and network), `study`, `parameters`,
    `steps`, `pairs`, `planned` (pairs of the study when all of it has finished), `difference`, `low`, `high`, `detectable`
    and `finding`, see `finding`.
    """
    rows = [
        row
        for row in summary.to_dict("records")
        if row["variant"] == VARIANT and row["against"] == AGAINST and (row["private"] or row["epsilon"] == "inf")
        if row["difference_n"] > 0 and not _compares_recipes(studies[row["study"]])
    ]
    best: dict[tuple, dict] = {}
    for row in rows:
        place = tuple(row[key] for key in PLACE)
        if place not in best or row["difference_n"] >= best[place]["difference_n"]:
            best[place] = row
    recipes = Counter((dataset, arch) for dataset, _, arch in {place[:-1] for place in best})
    return [
        {key: row[key] for key in (*PLACE, "private", "study", "parameters", "difference", "detectable")}
        | {"alone": recipes[row["dataset"], row["arch"]] == 1}
        | {"pairs": int(row["difference_n"]), "low": row["difference_low"], "high": row["difference_high"]}
        | {"planned": len({run.seed for run in runs}), "steps": runs[0].recipe["steps"]}
        | {"finding": finding(row["difference_low"], row["difference_high"], row["detectable"])}
        for row in best.values()
        for runs in [[run for run in studies[row["study"]].runs if _at(run, row)]]
    ]


def _compares_recipes(study: Study) -> bool:
    """Whether two recipes of the study differ in optimizer or precision alone."""
    recipes = {run.recipe_name: run.recipe for run in study.runs}.values()
    same = [{key: value for key, value in recipe.items() if key not in {"optimizer", "precision"}} for recipe in recipes]
    return any(recipe in same[:place] for place, recipe in enumerate(same))


def _at(run: Run, row: dict) -> bool:
    place = (run.recipe_name, run.arch, run.variant, epsilon_text(run.epsilon))
    return place == tuple(row[key] for key in ("recipe", "arch", "variant", "epsilon"))


def finding(low: float, high: float, detectable: float) -> str:
    """What an interval [low, high] says: gain, loss, no gain of one point, too few pairs, or not resolved.

    Too few: not even a true difference of one point would be found with 80 % probability.
    """
    if math.isnan(low):
        return "too few pairs"
    if low > 0:
        return "gain"
    if high < 0:
        return "loss"
    if high < POINT:
        return "no gain of one point"
    return "too few pairs" if detectable > POINT else "not resolved"


def published(table: pd.DataFrame) -> list[dict]:
    """The effect of every published value that names the one `against` which it is to be held; values are text.

    `low` and `high` are Welch's interval of the difference of two means where both give standard deviation and n > 1, and
    NaN elsewhere: a difference of single values has no interval.
    """
    by_id = {row["id"]: row for row in table.to_dict("records")}
    rows = []
    for row in by_id.values():
        if row["against"]:
            other = by_id[row["against"]]
            difference = float(row["accuracy"]) - float(other["accuracy"])
            low, high = _welch(difference, row, other)
            rows.append({"row": row, "against": other, "difference": difference, "low": low, "high": high})
    return rows


def _welch(difference: float, first: dict, second: dict) -> tuple[float, float]:
    known = [(float(row["sd"]), int(row["n"])) for row in (first, second) if row["sd"] and row["n"] and int(row["n"]) > 1]
    if len(known) < 2:
        return math.nan, math.nan
    parts = [sd**2 / n for sd, n in known]
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, (_, n) in zip(parts, known, strict=True))
    half = t_quantile(freedom) * math.sqrt(sum(parts))
    return difference - half, difference + half
