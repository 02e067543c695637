"""What the page decides about a study, on rows and recipes of a few keys."""

import math

import pytest

from bench.report import studies
from bench.report.formats import MINUS


def recipe(budget="calibrated", delta=1e-5):
    return {"budget": budget, "delta": delta}


def arm(variant, difference=math.nan, half=1.0, **changes):
    row = {"recipe": "a", "arch": "wrn", "variant": variant, "epsilon": "8", "budget": "calibrated", "private": True}
    row |= {"difference": difference, "difference_low": difference - half, "difference_high": difference + half}
    return row | {"without_average_mean": math.nan} | changes


def arms(rows, recipes=False, archs=False):
    return studies._arms(rows, several_recipes=recipes, several_archs=archs)


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        (["calibrated"], None),
        (["proxy", "proxy"], "not private"),
        (["proxy", "calibrated", "as-published"], "1 of 3 recipes is not private"),
        (["proxy", "proxy", "calibrated"], "2 of 3 recipes are not private"),
    ],
)
def test_a_study_says_how_many_of_its_recipes_are_not_private(budgets, expected):
    assert studies._not_private({str(i): recipe(budget) for i, budget in enumerate(budgets)}) == expected


def test_a_mechanism_taken_apart_is_not_private():
    clips, noises = (recipe() | {"mechanism": mechanism} for mechanism in ({"noise": False}, {"clip": False}))
    assert studies.not_private({"a": recipe(), "b": clips, "c": noises, "d": recipe("proxy")}) == ["b", "c", "d"]
    assert studies.proxies({"b": clips, "d": recipe("proxy")}) == ["d"]
    assert studies._privacy({"a": recipe(), "b": clips, "c": noises}, ["8"])[2:] == [
        "not private: no noise is added (b)", "not private: nothing is clipped (c)"
    ]  # fmt: skip


def test_privacy_names_recipes_only_where_they_differ():
    assert studies._privacy({"a": recipe(), "b": recipe()}, ["8", "inf"]) == ["ε = 8, ∞", f"δ = 1e{MINUS}5"]
    several = {"b": recipe("as-published", 2e-6), "a": recipe("proxy"), "c": recipe("proxy")}
    epsilons, *rest = studies._privacy(several, ["8"])
    assert epsilons == "ε = 8"
    assert rest == [f"δ = 2e{MINUS}6 (b), δ = 1e{MINUS}5 (a and c)", "as published, ε computed (b)", "not private (a and c)"]
    assert studies._privacy({"a": recipe("proxy")}, ["8"])[-1] == "not private"


def test_intervals_on_one_side_of_zero_are_told():
    rows = [arm("baseline"), arm("up", 2.0), arm("down", -2.0, epsilon="inf"), arm("open", 0.5)]
    table = arms(rows)
    assert table["intervals"] == 3
    assert table["excludes_zero"] == ["up at ε = 8 (+2.00 points)", f"down at ε = ∞ ({MINUS}2.00 points)"]
    assert arms(rows, recipes=True, archs=True)["excludes_zero"][0] == "up on wrn with a at ε = 8 (+2.00 points)"


def test_an_interval_that_touches_zero_does_not_exclude_it():
    assert arms([arm("touches", 1.0)])["excludes_zero"] == []


def test_arms_are_grouped_by_epsilon_and_recipe():
    rows = [arm("x"), arm("y"), arm("x", recipe="b"), arm("x", recipe="b", epsilon="inf")]
    assert [row["starts_group"] for row in arms(rows)["rows"]] == [True, False, True, True]
    assert [row["starts_group"] for row in arms(rows[:2])["rows"]] == [True, False]


def test_columns_appear_where_a_row_fills_them():
    plain = arms([arm("x")])
    assert (plain["spent"], plain["averaged"], plain["proxies"]) == (False, False, [])
    full = arms([arm("x"), arm("y", budget="proxy", private=False), arm("z", budget="proxy", without_average_mean=60.5)])
    assert (full["spent"], full["averaged"], full["proxies"], full["taken_apart"]) == (True, True, ["a"], [])
    apart = arms([arm("x"), arm("y", recipe="b", private=False), arm("z", private=False, epsilon="inf")])
    assert (apart["spent"], apart["proxies"], apart["taken_apart"]) == (True, [], ["b"])
    published = arms([arm("x", budget="as-published")])
    assert (published["spent"], published["proxies"]) == (True, [])


def test_finished_counts():
    assert studies.finished({"records": [1], "total": 1}) == "1 of 1 run"
    assert studies.finished({"records": [], "total": 3}) == "0 of 3 runs"
