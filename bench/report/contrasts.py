"""Every variant against every other one of its recipe, network and epsilon, paired by seed: a look, not a test."""

import math

import pandas as pd

from bench.evidence.stats import by_pair, contrast, holm

PLACE = ["recipe", "arch", "epsilon"]
FEWEST = 3  # variants: of two, the table of arms has the one difference
MOST = 24  # variants: a wider matrix nobody reads; the file of pairs has them all


def matrices(runs: pd.DataFrame) -> list[dict]:
    """A matrix for every recipe, arch and epsilon of a study's `runs` with FEWEST to MOST variants: `variants` and `rows`.

    A row has the `variant` and a cell per variant that is taken off: `difference`, `low`, `high`, `pairs`, `p_holm`; None
    on the diagonal. `p_holm` is adjusted over all pairs of variants of the study.
    """
    done = runs[runs["status"] == "completed"]
    found: dict[tuple, dict[tuple, dict]] = {}
    for place, group in sorted(done.groupby(PLACE, sort=False), key=lambda item: (item[0][:2], float(item[0][2]))):
        arms = {variant: by_pair(rows) for variant, rows in group.groupby("variant", sort=False)}
        if FEWEST <= len(arms) <= MOST:
            names = list(arms)
            found[place] = {
                (first, second): contrast([(1, arms[first]), (-1, arms[second])])
                for i, first in enumerate(names)
                for second in names[:i]
            }
    flat = [cell for cells in found.values() for cell in cells.values() if not math.isnan(cell["p"])]
    for cell, p in zip(flat, holm([cell["p"] for cell in flat]), strict=True):
        cell["p_holm"] = p
    return [dict(zip(PLACE, place, strict=True)) | _matrix(cells) for place, cells in found.items()]


def _matrix(cells: dict[tuple, dict]) -> dict:
    variants = list(dict.fromkeys(name for first, second in cells for name in (second, first)))
    return {
        "variants": variants,
        "rows": [{"variant": mine, "cells": [_cell(mine, other, cells) for other in variants]} for mine in variants],
    }


def _cell(mine: str, other: str, cells: dict[tuple, dict]) -> dict | None:
    if mine == other:
        return None
    cell, sign = (cells[mine, other], 1) if (mine, other) in cells else (cells[other, mine], -1)
    ends = sorted(sign * cell[f"difference_{end}"] for end in ("low", "high"))
    told = {"difference": sign * cell["difference"], "low": ends[0], "high": ends[1], "pairs": cell["difference_n"]}
    return told | {"p_holm": cell.get("p_holm", math.nan)}
