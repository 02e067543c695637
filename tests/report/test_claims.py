"""What the page decides about claims, on plain data."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.report import claims as page
from bench.report import words
from tests.report.test_sections import NAMES, SUMMARY, study


@pytest.fixture
def claim():
    return {"study": "quick", "arch": "wrn", "variant": "scalenorm", "against": "baseline", "epsilon": 8,
            "range": [1.0, math.inf], "statement": "It helps.", "source": "Us"}  # fmt: skip


def decided(claims, **changes):
    row = {"name": "gain", "verdict": "not resolved", "dataset": "Copy", "test": "superiority", "pairs": 2}
    table, content = pd.DataFrame([row | changes]), {"claims": {"gain": claims}}
    return page.claims(content, PLANS, table, [STUDY], {"CIFAR-10"}, NAMES)[0]


STUDY = study(views={"here": {"rows": [SUMMARY]}}, plan={"recipe": ["a"]})
PLANS = {"quick": SimpleNamespace(name="quick", runs=[SimpleNamespace(recipe_name="a", seed=seed) for seed in (0, 1)])}


def test_a_claim_without_reference_has_one_verdict(claim):
    part = decided(claim)
    assert (part["verdict"], part["mark"], part["outcome"]) == ("not resolved", "?", "not resolved")
    assert (part["range"], part["recipe"], part["epsilon"]) == ("above 1 point", "a", "8")
    assert [row["origin"] for row in part["rows"]] == ["this report"]
    assert [badge["text"] for badge in part["badges"]] == ["Copy: not the official data", words.STEERS]
    assert part["rows"][0]["badges"] == []  # they stand at the claim's head


def test_the_schedule_counts_only_where_the_arm_is_the_claims(claim):
    for other in ({"arch": "resnet9"}, {"recipe": "b"}):
        assert [badge["text"] for badge in decided(claim | other)["badges"]] == ["Copy: not the official data"]


def test_the_reference_is_judged_by_the_same_rule(claim, monkeypatch):
    runs = pd.DataFrame(
        {"arch": "wrn", "epsilon": "8", "status": "completed", "recipe": "a", "variant": variant, "seed": seed,
         "accuracy": 30.0 + seed + (50 + seed) * (variant == "scalenorm"), "dataset": "CIFAR-10", "dataset_digest": "d"}
        for variant in ("baseline", "scalenorm")
        for seed in (0, 1)
    )  # fmt: skip
    views = STUDY["views"] | {"reference": {"rows": [], "runs": runs}}
    monkeypatch.setitem(STUDY, "views", views)
    part = decided(claim)
    assert part["outcome"] == "not resolved here, supported in our reference"
    assert [row["badges"] for row in part["rows"]] == [[], [{"text": "CIFAR-10", "warn": False}]]


def test_pairs_are_listed_with_their_runs():
    runs = pd.DataFrame(
        {"recipe": "a", "arch": "wrn", "epsilon": "8", "status": status, "variant": variant, "seed": seed,
         "accuracy": 70.0 + seed + gain, "dataset_digest": "d"}
        for variant, gain in (("scalenorm", 2.0), ("baseline", 0.0))
        for seed, status in ((10, "completed"), (2, "completed"), (3, "diverged"))
    )  # fmt: skip
    claim = {"arch": "wrn", "variant": "scalenorm", "against": "baseline", "epsilon": 8}
    first, second = page.pairs(runs, page.arms_of(claim, "a"))
    assert (first["seed"], second["seed"], first["difference"]) == (2, 10, 2.0)
    assert first["cells"][0] == {"accuracy": 74.0, "run": "a/wrn/scalenorm/eps8/seed2"}


def test_how_fragile_a_verdict_is():
    values = [1.0, 1.1, 0.9, 1.0, -3.0]
    assert page.fragile(values, 5, [0.0, math.inf]) == (
        "Taking away the right 1 of its 5 pairs would change what the interval says (20 %)."
    )
    assert page.fragile(values, 6, [0.0, math.inf]) == ""  # not decided yet
    assert page.fragile([1.0, 1.0, 1.0], 3, [0.0, math.inf]) == "No removal of pairs changes what the interval says."
