"""Statements and the rules, written down in config.yaml before the runs, that decide them."""

import math
from collections.abc import Sequence

import pandas as pd

from bench.evidence.stats import LEVEL, by_pair, contrast, holm
from bench.plan.claims import arms_of, contrast_text, range_text, test_of
from bench.plan.spec import Study

SUPPORTED, CONTRADICTED, NOT_RESOLVED, NOT_TESTED = "supported", "contradicted", "not resolved", "not tested"


def of_study(config: dict, study: Study, runs: pd.DataFrame) -> list[dict]:
    """As `decide`, of the claims that `config` makes about `study`."""
    asked = {name: claim for name, claim in config["claims"].items() if claim["study"] == study.name}
    return decide(asked, runs, study.runs[0].recipe_name, sorted({run.seed for run in study.runs}))


def decide(claims: dict[str, dict], runs: pd.DataFrame, recipe: str, seeds: Sequence[int]) -> list[dict]:
    """The claims of one study, by name, with contrast, verdict and reason in words.

    `runs` are the rows of the study's runs, `recipe` is its first recipe, `seeds` are all that it plans: a claim is decided
    when every one of them has finished in every arm of the contrast, never before, so that nobody stops where it looks
    best. The value of a seed is variant - against in points, on the same data. `p` is two-sided, against the end of the
    claim's range that is nearest; `p_holm` is adjusted over all claims of the study, those that wait for runs as if their p
    were 1. Supported: the interval lies within the range, and p_holm is below 5 %; contradicted: it lies outside, likewise.
    """
    found = [_contrast(claim, runs, recipe) for claim in claims.values()]
    ready = [row["difference_n"] == len(seeds) and not math.isnan(row["p"]) for row in found]
    adjusted = holm([row["p"] if is_ready else 1.0 for row, is_ready in zip(found, ready, strict=True)])
    return [
        {"name": name}
        | _plan(claim, recipe)
        | row
        | {"pairs": len(seeds)}
        | _verdict(row, len(seeds), p if is_ready else math.nan)
        for (name, claim), row, is_ready, p in zip(claims.items(), found, ready, adjusted, strict=True)
    ]


def _plan(claim: dict, recipe: str) -> dict:
    """What the configuration says, a value a column."""
    first = arms_of(claim, recipe)[0][1]
    told = {key: claim.get(key, "") for key in ("statement", "source", "found_by", "study")}
    return told | {"contrast": contrast_text(claim)} | vars(first)


def _contrast(claim: dict, runs: pd.DataFrame, recipe: str) -> dict:
    low, high = map(float, claim["range"])
    arms = [
        (sign, runs[(runs[list(vars(arm))] == list(vars(arm).values())).all(axis=1)]) for sign, arm in arms_of(claim, recipe)
    ]
    done = [(sign, by_pair(arm[arm["status"] == "completed"])) for sign, arm in arms]
    found = contrast(done, low, high)
    return found | {
        "test": test_of(low, high),
        "range_low": low,
        "range_high": high,
        "diverged": sum(int((arm["status"] == "diverged").sum()) for _, arm in arms),
        "dataset": "; ".join(sorted({label for _, arm in arms for label in arm["dataset"]})),
    }


def _verdict(row: dict, pairs: int, p_holm: float) -> dict:
    """{p_holm, verdict, reason}."""
    n, low, high = row["difference_n"], row["difference_low"], row["difference_high"]
    told = range_text(row["range_low"], row["range_high"])
    if n == 0:
        return _told(p_holm, NOT_TESTED, "no pair of runs has finished")
    if n < pairs:
        lost = f", {row['diverged']} runs diverged" if row["diverged"] else ""
        return _told(p_holm, NOT_RESOLVED, f"{n} of {pairs} pairs have finished{lost}; it is decided when all have")
    if math.isnan(p_holm):
        return _told(p_holm, NOT_RESOLVED, "no interval")
    inside = row["range_low"] < low and high < row["range_high"]
    outside = high < row["range_low"] or low > row["range_high"]
    if not (inside or outside):
        ends = [f"{end:g}" for end in (row["range_low"], row["range_high"]) if low <= end <= high]
        return _told(p_holm, NOT_RESOLVED, f"the interval contains {' and '.join(ends)}")
    if p_holm >= 1 - LEVEL:
        return _told(p_holm, NOT_RESOLVED, "its interval alone would decide, but not among the study's claims (Holm)")
    if inside:
        return _told(p_holm, SUPPORTED, f"the interval lies {told}")
    place = f"below {row['range_low']:g}" if high < row["range_low"] else f"above {row['range_high']:g}"
    return _told(p_holm, CONTRADICTED, f"the interval lies {place}, and claimed is {told}")


def _told(p_holm: float, verdict: str, reason: str) -> dict:
    return {"p_holm": p_holm, "verdict": verdict, "reason": reason}
