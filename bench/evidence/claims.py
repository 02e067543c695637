"""Published statements and the rules, written down in config.yaml before the runs, that decide them."""

import math

import pandas as pd

from bench.evidence.stats import by_pair, paired
from bench.plan.spec import epsilon_text


def decide(name: str, claim: dict, runs: pd.DataFrame) -> dict:
    """The claim with its contrast and verdict: supported, contradicted or undecided, and the reason in words.

    `runs` are the rows of the claim's study; the difference is variant - against, in points, paired by seed.
    """
    epsilon = epsilon_text(claim["epsilon"])
    arms = runs[(runs["arch"] == claim["arch"]) & (runs["epsilon"] == epsilon) & (runs["status"] == "completed")]
    arms = arms[arms["recipe"] == claim.get("recipe", arms["recipe"])]
    first, second = (by_pair(arms[arms["variant"] == claim[key]]) for key in ("variant", "against"))
    contrast = paired(first, second)
    n, low, high, bar = (
        contrast["difference_n"],
        contrast["difference_low"],
        contrast["difference_high"],
        claim["at_least"],
    )
    if n < claim["min_seeds"]:
        verdict, reason = "undecided", f"{n} of {claim['min_seeds']} paired seeds have finished"
    elif math.isnan(low):
        verdict, reason = "undecided", "no interval"
    elif low > bar:
        verdict, reason = "supported", f"the interval lies above {bar:g} points"
    elif high < bar:
        verdict, reason = "contradicted", f"the interval lies below {bar:g} points"
    else:
        verdict, reason = "undecided", f"the interval contains {bar:g} points"
    datasets = "; ".join(sorted(arms["dataset"].unique()))
    return {
        "name": name,
        **claim,
        "epsilon": epsilon,
        **contrast,
        "verdict": verdict,
        "reason": reason,
        "dataset": datasets,
    }
