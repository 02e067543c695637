"""Where the accuracy goes that privacy costs: to clipping, to noise, or to the two together.

A study that takes the mechanism apart trains each seed four times: without either part (epsilon inf), with clipping only,
with noise only, and with both. The loss is the accuracy without either less that with both. A part's share is the mean of
what it costs alone and what it costs on top of the other one (Shapley 1953), so that the shares sum to the loss, seed by
seed; `together` is what both cost beyond the sum of what each costs alone.
"""

import math

import pandas as pd

from bench.evidence.stats import by_pair, interval

PARTS = ("loss", "clipping", "noise", "together")
GAIN = "scalenorm - baseline"


def shares(runs: pd.DataFrame, parts: dict[str, dict]) -> list[dict]:
    """A row for each arch, variant, finite epsilon and one of PARTS: `points`, `low`, `high`, and the `pairs` of seeds.

    `runs` are a study's rows, `parts` says of each of its recipes whether it clips and adds noise, see `spec.mechanism`.
    Rows of variant GAIN are differences of the two, paired by seed: what the layer mends is below zero.
    """
    done = runs[runs["status"] == "completed"]
    tables: dict[tuple, pd.DataFrame] = {}
    for (arch, variant), group in done.groupby(["arch", "variant"], sort=False):
        for epsilon in sorted({epsilon for epsilon in group["epsilon"] if epsilon != "inf"}, key=float):
            tables[arch, variant, epsilon] = _costs(group, epsilon, parts)
    for arch, variant, epsilon in list(tables):
        if variant == "scalenorm" and (arch, "baseline", epsilon) in tables:
            tables[arch, GAIN, epsilon] = (tables[arch, variant, epsilon] - tables[arch, "baseline", epsilon]).dropna()
    return [_row(key, part, table[part]) for key, table in tables.items() if len(table) for part in PARTS]


def _costs(runs: pd.DataFrame, epsilon: str, parts: dict[str, dict]) -> pd.DataFrame:
    """PARTS of every seed and data that all four runs have; no row where a recipe is missing."""
    arms = {}
    for recipe, of_recipe in runs.groupby("recipe", sort=False):
        both = parts[recipe]["clip"], parts[recipe]["noise"]
        arms[both] = by_pair(of_recipe[of_recipe["epsilon"] == epsilon])
        if both == (True, True):
            arms[False, False] = by_pair(of_recipe[of_recipe["epsilon"].map(lambda text: math.isinf(float(text)))])
    if len(arms) < 4:
        return pd.DataFrame(columns=list(PARTS))
    table = pd.concat(arms, axis=1, join="inner")
    neither, clip, noise, both = (table[key] for key in ((False, False), (True, False), (False, True), (True, True)))
    return pd.DataFrame(
        {
            "loss": neither - both,
            "clipping": ((neither - clip) + (noise - both)) / 2,
            "noise": ((neither - noise) + (clip - both)) / 2,
            "together": (neither - both) - (neither - clip) - (neither - noise),
        }
    )


def _row(key: tuple, part: str, points: pd.Series) -> dict:
    low, high = interval(points.to_numpy(dtype=float))
    names = dict(zip(("arch", "variant", "epsilon"), key, strict=True))
    return names | {"part": part, "points": float(points.mean()), "low": low, "high": high, "pairs": len(points)}
