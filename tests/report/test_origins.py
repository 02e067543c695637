"""What the page decides about how runs were made, on records made up for study quick."""

import pytest

from bench.report import origins
from tests.factory import record_of


@pytest.fixture
def made(quick):
    return [record_of(run, 70.0) for run in list(quick.values())[:3]]


def study(made, name="quick", budget="calibrated"):
    return {"name": name, "records": made, "total": 6, "plan": {"seed": [0, 1, 2]}, "recipes": {"digits": {"budget": budget}}}


def test_sources_are_told_apart_and_the_oldest_comes_first(made):
    made[2]["provenance"] |= {"source_digest": "1" * 12, "started": "2025-12-31T00:00:00+00:00"}
    made[1]["provenance"] |= {"commit": "2" * 40, "dirty": True}
    made[0]["cost"]["resumed_at_step"] = 100
    made[1]["cost"]["resumed_at_step"] = 0
    (part,) = origins.provenance([study(made), study([], "idle")], made)["studies"]
    old, new = part["sources"]
    assert (old["digest"], old["runs"], old["day"]) == ("1" * 12, 1, "2025-12-31")
    assert (new["runs"], new["commits"]) == (2, ["0" * 10, "2" * 10])
    assert (part["mixed"], part["dirty"], part["resumed"]) == (True, 1, 1)
    assert [row["resumed"] for row in part["rows"]] == [100, 0, 0]


def test_runs_refer_to_the_row_of_what_they_were_made_of(made):
    made[1]["machine"]["torch"] = "2.12.0"
    part = origins.provenance([study(made)], made)
    assert [(row["torch"], row["runs"]) for row in part["made_of"]] == [("2.13.0", 2), ("2.12.0", 1)]
    assert [row["made_of"] for row in part["studies"][0]["rows"]] == [1, 2, 1]
    assert not part["studies"][0]["mixed"]


def test_the_checklist_without_runs_has_nothing_recorded():
    empty = origins.checklist([study([])], [], {})
    assert empty["trained"] == 0
    assert not any(value for key, value in empty.items() if key != "trained")


def test_the_checklist_says_what_was_planned_and_measured(made):
    for record, seconds in zip(made, (30.0, 10.0, 20.0), strict=True):
        record["cost"]["seconds"] = seconds
    made[0]["result"]["test_split_steers"] = True
    part = origins.checklist([study(made), study([], "rates", "proxy")], made, {})
    assert part["plans"] == ["quick: 3 of 6, planned as 2 arms of 3 seeds"]
    assert part["run_time"] == {"all": 60.0, "shortest": 10.0, "longest": 30.0}
    assert (part["steered"], part["averaged"], part["searches"]) == (True, False, ["rates"])
    assert part["parameters"] == ["resnet9-w8 baseline, digits: 39,746"]


def test_energy_is_of_the_runs_that_could_read_a_counter(made):
    assert origins.checklist([study(made)], made, {})["energy"] is None
    del made[2]["cost"]["joules"]  # of a version that did not look
    made[0]["cost"]["joules"] = 3.6e6
    made[1]["cost"]["joules"] = 1.8e6
    made[1]["machine"]["device"] = "cuda"
    energy = origins.checklist([study(made)], made, {})["energy"]
    assert (energy["kwh"], energy["runs"], len(energy["devices"])) == ("1.50", 2, 2)
    assert "GPU" in energy["devices"][1]


def test_a_setting_says_what_the_recipe_does_not_do_too():
    recipe = {"views": 1, "augmentation": "none", "padding": "reflect", "ema": None, "warmup": 0, "precision": "float32"}
    assert origins._setting("a", recipe) == (
        "a: 1 view of an image is one sample (no augmentation); weights not averaged; no warm-up; float32."
    )
    recipe |= {"views": 16, "augmentation": "crop-flip", "ema": 0.9999, "warmup": 1}
    assert origins._setting("a", recipe) == (
        "a: 16 views of an image are one sample (crop-flip, reflect padding); weights averaged, decay 0.9999; "
        "warm-up of 1 step; float32."
    )


def test_a_search_says_what_it_was_judged_by(made):
    (told,) = origins.checklist([study(made)], made, {"pocket": made[:2]})["searched"]
    assert told == (
        "recipe pocket: 2 runs of baseline at ε = 3, seeds 0 and 1, which no result uses, "
        "judged by accuracy on the test split"
    )


def test_settings_are_flat_text_by_recipe(made):
    (recipe,) = origins.settings(made).values()
    assert recipe["optimizer.lr"] == str(made[0]["run"]["recipe"]["optimizer"]["lr"])
    assert all(isinstance(value, str) for value in recipe.values())
