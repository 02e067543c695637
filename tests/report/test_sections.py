"""What the page decides in its sections on results, on plain data."""

import math

import pandas as pd
import pytest

from bench.report import sections, words
from bench.report.formats import MINUS, NOTHING

NAMES = words.origins(committed=False)
SUMMARY = {"recipe": "a", "arch": "wrn", "variant": "scalenorm", "epsilon": "8", "n": 2, "mean": 70.0, "sd": 1.0,
           "budget": "calibrated", "dataset": "CIFAR-10", "test_split_steers": True}  # fmt: skip
RUNS = pd.DataFrame([{key: SUMMARY[key] for key in ("recipe", "arch", "variant", "epsilon")} | {"private": True, "mu": 1.5}])
VIEW = {"rows": [SUMMARY], "runs": RUNS}
VALUE = {
    "id": "v",
    "against": "",
    "mu": "",
    "comparable_with": "quick",
    "epsilon": "8.0",
    "delta": "0.00001",
    "accuracy": "81.4",
    "sd": "0.7",
    "n": "",
}


def study(name="quick", **changes):
    plain = {"name": name, "question": "?", "records": [], "missing": None, "views": {}, "total": 3}
    return plain | {"recipes": {"a": {"budget": "calibrated", "delta": 1e-5}}} | changes


def record(seed, **changes):
    return {
        "status": "completed",
        "run": {"id": f"a/wrn/scalenorm/eps8/seed{seed}", "seed": seed, "recipe": {"steps": 10}},
        "result": {"reason": None},
        "privacy": {"steps": 10},
        "data": {"label": "CIFAR-10"},
        "machine": {"device_name": "GPU"},
        "provenance": {"started": f"2026-01-0{seed}T10:00:30+00:00", "finished": f"2026-01-0{seed}T11:00:30+00:00"},
        "cost": {"seconds": 10.0},
    } | changes


def test_the_overview_counts_what_was_run_and_names_what_was_not():
    made = [record(1), record(3, status="diverged")]
    part = sections.overview([study(records=made), study("views"), study("large", missing={"missing": 3})], made)
    assert (part["studies"], part["absent"]) == (3, ["large"])
    runs = part["runs"]
    assert runs["shares"] == ["quick (2 of 3 runs, seeds 1 and 3)"]
    assert (runs["count"], runs["diverged"], runs["seconds"]) == (2, 1, 20.0)
    assert (runs["data"], runs["machines"]) == (["CIFAR-10"], ["GPU"])
    assert (runs["first"], runs["last"]) == ("2026-01-01 10:00", "2026-01-03 11:00")


def test_without_runs_the_overview_has_none():
    assert sections.overview([study()], [])["runs"] is None
    assert sections._share(study(records=[record(5), record(5)])) == "quick (2 of 3 runs, seed 5)"


def test_a_run_without_privacy_spends_nothing_in_words():
    row = {"budget": "as-published", "noise_multiplier": 1.23456, "batch_size": 4096, "clip_norm": 1.0, "delta": 1e-5}
    private = sections._spent(row | {"epsilon": "8"})
    assert [private[key] for key in ("budget_name", "noise_multiplier", "batch_size", "clip_norm", "delta")] == [
        "as published", "1.235", "4096", "1", f"1e{MINUS}5"
    ]  # fmt: skip
    plain = sections._spent(row | {"epsilon": "inf", "noise_multiplier": 0.0, "clip_norm": math.inf})
    assert [plain[key] for key in ("noise_multiplier", "clip_norm", "delta")] == ["0", "none", NOTHING]
    unclipped = sections._spent(row | {"epsilon": "8", "clip_norm": math.inf})
    assert [unclipped[key] for key in ("noise_multiplier", "clip_norm")] == ["1.235", "none"]


def test_published_values_stand_beside_the_study_that_they_are_comparable_with():
    table = pd.DataFrame([VALUE, VALUE | {"comparable_with": ""}, VALUE | {"comparable_with": "gone"},
                          VALUE | {"comparable_with": "idle"}])  # fmt: skip
    quick, idle = study(views={"here": VIEW, "reference": VIEW}), study("idle")
    gone, without, beside, further = sections.published(table, [quick, idle], NAMES)
    assert gone["title"] == "1 value comparable with study gone, which this configuration does not have"
    assert without["title"] == "1 value comparable with study idle, which has no finished run"
    assert further["title"] == "1 further value, not comparable with any study"
    assert [group["beside"] for group in (gone, without, beside, further)] == [None, None, "quick", None]
    assert [len(group["ours"]) for group in (gone, without, beside, further)] == [0, 0, 2, 0]
    assert [row["note"] for row in beside["ours"]] == [f"{name}; {words.STEERS}" for name in ("this report", "our reference")]
    assert (beside["ours"][0]["method"], beside["ours"][0]["mu"]) == ("scalenorm", 1.5)
    quick["views"] = {"here": VIEW | {"rows": [SUMMARY | {"test_split_steers": False}]}}
    assert sections._ours(quick, NAMES)[0]["note"] == "this report"


def test_of_several_recipes_ours_are_named():
    recipes = {name: {"budget": "calibrated", "delta": 1e-5} for name in "ab"}
    (row,) = sections._ours(study(recipes=recipes, views={"here": VIEW | {"rows": [SUMMARY | {"epsilon": "inf"}]}}), NAMES)
    assert (row["method"], row["delta"], row["accuracy"]) == ("scalenorm with a", "", "70.00 ± 1.00")


def test_values_on_the_axis_of_privacy_are_those_with_a_mu():
    table = pd.DataFrame(
        [
            VALUE | {"method": "DP-SGD", "model": "W", "source_key": "DE", "dataset": "CIFAR-10", "mu": mu}
            for mu in ("", "1.569")
        ]
    )
    theirs, ours = sections.privacy_axis(table, [study(views={"here": VIEW}), study("again", views={"here": VIEW})])
    assert (theirs["mu"], theirs["ours"], theirs["scalenorm"]) == (1.569, False, False)
    assert (ours["mu"], ours["accuracy"], ours["scalenorm"]) == (1.5, 70.0, True)


def test_a_published_effect_stands_beside_its_value():
    values = [VALUE | {"comparable_with": ""}, VALUE | {"id": "w", "against": "v", "accuracy": "82.5", "comparable_with": ""}]
    (group,) = sections.published(pd.DataFrame(values), [], NAMES)
    assert [row["change"] and round(row["change"]["difference"], 2) for row in group["rows"]] == [None, 1.1]


def test_a_published_value_says_what_its_source_says():
    stated = sections._value(VALUE, {})
    assert [stated[key] for key in ("epsilon", "delta", "accuracy", "n")] == ["8", f"1e{MINUS}5", "81.4 ± 0.7", NOTHING]
    bare = sections._value(VALUE | {"epsilon": "inf", "delta": "", "sd": "", "n": "3"}, {})
    assert [bare[key] for key in ("epsilon", "delta", "accuracy", "n")] == ["∞", "", "81.4", "3"]


def test_a_speed_case_says_what_its_table_has():
    case = {"device": "GPU", "arch": "resnet9", "physical_batch": 64}
    assert sections._case(case) == "resnet9, 64 images; GPU"
    full = case | {"threads": 1, "width": 8, "views": 16, "precision": "tf32"}
    assert sections._case(full) == "resnet9 (width 8), 64 images of 16 views, tf32; GPU, 1 thread"
    assert "views" not in sections._case(case | {"views": 1})


def test_overhead_needs_both_variants_with_the_fast_engine():
    rows = pd.DataFrame(
        {"device": "GPU", "arch": "resnet9", "physical_batch": 64, "variant": variant, "engine": engine,
         "ratio_to_nonprivate": ratio, "ratio_low": ratio - 0.04, "ratio_high": ratio + 0.04, "peak_mb": mb}
        for variant, engine, ratio, mb in [("baseline", "not-private", 1.0, 200.0), ("baseline", "fast", 2.0, 500.0),
                                           ("scalenorm", "fast", 2.1, 540.0)]
    )  # fmt: skip
    (group,) = sections.speed(rows)
    assert group["overhead"] == {"percent": pytest.approx(5.0), "known": True, "mb": 40.0}
    assert [row["relative_mb"] for row in group["rows"]] == [1.0, 2.5, 2.7]
    assert sections.speed(rows[:2])[0]["overhead"] is None
    overlapping, older = rows.assign(ratio_low=rows["ratio_low"] - 0.1), rows.drop(columns=["ratio_low", "ratio_high"])
    for unclear, known in ((overlapping, True), (older, False)):
        overhead = sections.speed(unclear)[0]["overhead"]
        assert math.isnan(overhead["percent"])
        assert (overhead["known"], overhead["mb"]) == (known, 40.0)
    assert math.isnan(sections.speed(rows[1:])[0]["rows"][0]["relative_mb"])
    assert sections.speed(pd.DataFrame()) == []


def test_the_reason_is_parted_from_what_to_do():
    reason = "stale: 1 of 3; run `snakemake quick`, then `python -m bench promote --study quick`"
    missing = {"missing": 1, "runs": 3, "reason": reason}
    part = sections.not_run([study("views"), study(missing=missing)], ["a/b"])
    (group,) = part["reasons"]
    (row,) = group["rows"]
    assert (row["why"], row["missing"], row["not_private"], row["reference"]) == ("stale: 1 of 3", "1 of 3", False, None)
    assert group["commands"] == ("snakemake STUDY", "python -m bench promote --study STUDY")
    assert part["outside"] == ["a/b"]
    bare = sections._absent(study(missing=missing | {"reason": "needs a GPU"}))
    assert (bare["why"], bare["commands"]) == ("needs a GPU", [])


def test_studies_that_are_missing_for_one_reason_stand_together():
    missing = {"missing": 3, "runs": 3, "reason": "needs a GPU; run `bench run NAME`"}
    absent = [
        study(name, missing=missing | {"reason": missing["reason"].replace("NAME", name)}) for name in ("large", "views")
    ]
    (group,) = sections.not_run(absent, [])["reasons"]
    assert ([row["name"] for row in group["rows"]], group["commands"]) == (["large", "views"], ("bench run STUDY",))


def test_a_study_that_is_missing_here_points_to_our_reference():
    missing = {"missing": 3, "runs": 3, "reason": "not run"}
    recipes = {"a": {"budget": "proxy"}}
    part = sections.not_run([study(missing=missing, recipes=recipes, views={"reference": {"runs": [1, 2]}})], [])
    (row,) = part["reasons"][0]["rows"]
    assert (row["reference"], row["not_private"]) == (2, True)


def test_failed_runs_are_the_diverged_ones():
    gone = record(2, status="diverged", result={"reason": "step 3: not finite"}, privacy={"steps": 3})
    part = sections.failed([record(1), gone])
    assert part == {
        "rows": [{"id": "a/wrn/scalenorm/eps8/seed2", "steps": "3 of 10", "reason": "step 3: not finite"}],
        "total": 2,
    }


def test_an_audit_has_a_row_a_case_and_none_without_a_table():
    row = {"engine": "fast", "case": "honest", "seeds": 100, "alarms": 1, "verdict": "passed", "epsilon_mu_gdp": 5.0}
    row |= {"epsilon_steinke": 1.5, "epsilon_clopper_pearson": 4.0}
    honest, missed = sections.audit(pd.DataFrame([row, row | {"case": "no noise", "verdict": "missed"}]))
    assert (honest["of"], honest["mark"], honest["honest"], honest["bounds"]) == ("1 of 100", "✓", True, [5.0, 1.5, 4.0])
    assert (missed["mark"], missed["honest"]) == ("✗", False)
    assert sections.audit(pd.DataFrame()) == []
