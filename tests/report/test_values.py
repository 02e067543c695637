"""The tables behind figures, on numbers that are easy to average."""

import pandas as pd

from bench.report import values
from bench.report.formats import MINUS


def points(**columns):
    rows = [
        {
            "recipe": "a",
            "arch": "wrn",
            "variant": variant,
            "epsilon": "inf",
            "seed": seed,
            "step": step,
            "block": f"res{step}",
        }
        | {
            "accuracy": 60.0 + step + seed,
            "clipped": 0.5,
            "norm": step,
            "snr": 0.1,
            "skip": 1.0,
            "branch": seed,
            "sum": 2.0,
            "private": True,
        }
        for variant in ("baseline", "scalenorm")
        for seed in (0, 1)
        for step in (1, 2)
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_curves_have_a_column_a_step():
    table = values.curves(points())
    assert [name for name, _ in table["columns"]] == ["Variant", "ε", "Step 1", "Step 2"]
    assert table["rows"] == [["baseline", "∞", "61.50", "62.50"], ["scalenorm", "∞", "61.50", "62.50"]]


def test_of_many_steps_some_are_told_and_the_last():
    many = pd.concat([points().query("step == 1").assign(step=step) for step in range(1, 21)])
    steps = [name for name, _ in values.curves(many)["columns"][2:]]
    assert steps == [f"Step {step}" for step in (2, 5, 8, 11, 14, 17, 20)]


def test_differences_over_steps_have_their_intervals_where_there_are_any():
    rows = [
        {"step": 1, "difference": 2.0, "low": 1.0, "high": 3.0, "pairs": 8},
        {"step": 2, "difference": -0.5, "low": float("nan"), "high": float("nan"), "pairs": 1},
    ]
    arm = {"recipe": "a", "arch": "wrn", "variant": "scalenorm", "epsilon": "8", "private": True}
    table = values.difference_curves(pd.DataFrame([arm | row for row in rows]))
    assert [name for name, _ in table["columns"]] == ["Variant", "ε", "Pairs", "Step 1", "Step 2"]
    assert table["rows"] == [["scalenorm", "8", "8", "+2.00 [+1.00, +3.00]", f"{MINUS}0.50"]]


def test_clipping_is_of_the_last_evaluation_and_mixing_of_every_block():
    assert values.clipping(points())["rows"][0] == ["baseline", "∞", "0.500", "2.00", "0.100"]
    assert values.mixing(points())["rows"][1] == ["baseline", "∞", "res2", "1.00", "0.50", "2.00"]


def test_several_recipes_or_networks_have_a_column():
    two = pd.concat([points(), points(recipe="b")])
    table = values.curves(two)
    assert table["columns"][2] == ("Recipe", "")
    assert [row[2] for row in table["rows"]] == ["a", "a", "b", "b"]
    ratio = pd.DataFrame(
        [{"recipe": "a", "arch": "w", "variant": "v", "epsilon": "1", "ratio": 0.5, "accuracy": 70.0}]
    ).assign(private=True)
    assert values.ratios(ratio)["rows"] == [["v", "1", "0.50", "70.00"]]


def test_a_nominal_epsilon_is_marked():
    assert values.mixing(points(epsilon="8", private=False))["rows"][0][:2] == ["baseline, not private", "8"]
