"""Where the studies stand, from records and from what runs say while they train."""

import json
import os
import platform
import time

import pytest

from bench.evidence import datasets, live, records
from bench.evidence.status import LOGS, Watcher
from bench.plan import resolve
from tests.factory import record_of


@pytest.fixture
def studies(shipped, tmp_path, monkeypatch):
    """Quick, 2 variants, 2 epsilons and 2 seeds; its twin with another arch; a folder without files."""
    monkeypatch.chdir(tmp_path)
    quick = shipped["studies"]["quick"] | {"variants": ["baseline", "scalenorm"], "epsilons": [8, float("inf")], "seeds": 2}
    shipped["studies"] = {"quick": quick, "again": quick | {"seeds": 3}, "wide": quick | {"archs": ["resnet9-w16"]}}
    shipped["claims"] = {}
    return resolve.studies_of(shipped)


def finish(run, seconds: float, accuracy: float | None = 90.0, status: str = "completed") -> None:
    record = record_of(run, accuracy, status)
    record["cost"]["seconds"] = seconds
    records.write(record, run.path)


def counts(state: dict, study: str) -> dict:
    return next(row for row in state["studies"] if row["study"] == study)


def test_nothing_has_begun(studies):
    state = Watcher(studies.values()).look()
    assert [row["study"] for row in state["studies"]] == ["quick", "again", "wide"]
    expected = {"total": 8, "done": 0, "running": 0, "failed": 0, "waiting": 8, "diverged": 0, "seconds_left": None}
    assert counts(state, "quick") == {"study": "quick"} | expected
    assert state["all"]["total"] == 12 + 8  # quick's runs are again's too
    assert (state["running"], state["failed"], state["stopped"]) == ([], [], [])


def test_every_state_is_counted_once(studies):
    runs = studies["quick"].runs
    finish(runs[0], 10.0)
    finish(runs[1], 2.0, None, "diverged")
    live.write(runs[2], "running", step=3, steps=80, epsilon=1.5, accuracy=20.0, seconds=1.0, seconds_left=26.0)
    live.write(runs[3], "failed", reason="out of memory")
    live.write(runs[4], "stopped", step=9, steps=80, reason="asked to", seconds_left=4.0)
    finish(runs[5], 4.0)
    live.write(runs[5], "running")  # its record stands: it is finished, whatever was said before
    (LOGS / runs[3].id).parent.mkdir(parents=True)
    (LOGS / f"{runs[3].id}.log").touch()
    state = Watcher(studies.values()).look()
    row = counts(state, "quick")
    assert [row[key] for key in ("total", "done", "diverged", "running", "failed", "waiting")] == [8, 3, 1, 1, 1, 3]
    assert state["failed"] == [{"run": runs[3].id, "reason": "out of memory", "log": f"results/logs/runs/{runs[3].id}.log"}]
    assert state["stopped"] == [{"run": runs[4].id, "step": 9, "steps": 80, "reason": "asked to"}]
    (running,) = state["running"]
    assert {key: running[key] for key in ("run", "step", "steps", "epsilon", "accuracy")} == {
        "run": runs[2].id, "step": 3, "steps": 80, "epsilon": 1.5, "accuracy": 20.0
    }  # fmt: skip
    assert (running["host"], running["pid"]) == (platform.node(), os.getpid())
    json.dumps(state, allow_nan=False)


def test_what_is_left_is_estimated_from_runs_of_the_same_kind(studies):
    """Private runs from private ones, and a network that nobody has trained is unknown."""
    private = [run for run in studies["quick"].runs if run.epsilon == 8]
    public = [run for run in studies["quick"].runs if run.epsilon != 8]
    finish(private[0], 100.0)
    finish(private[1], 300.0)
    finish(private[2], 1000.0)
    finish(public[0], 7.0)
    finish(public[1], 1.0, None, "diverged")  # early: it says nothing of how long runs take
    watcher = Watcher(studies.values())
    state = watcher.look()
    assert counts(state, "quick")["seconds_left"] == 300 + 2 * 7
    assert counts(state, "wide")["seconds_left"] is None
    assert state["all"]["seconds_left"] is None
    live.write(public[2], "running", seconds_left=5.0)
    live.write(public[3], "running", seconds_left=1.0)
    assert counts(watcher.look(), "quick")["seconds_left"] == (300 + 5 + 1) / 2  # two at a time
    finish(private[3], 300.0)
    assert counts(watcher.look(), "quick")["seconds_left"] == 5  # the longer one of two
    for run in public[2:]:
        finish(run, 7.0)
    assert counts(watcher.look(), "quick")["seconds_left"] == 0


def test_before_any_has_finished_the_running_ones_say_how_long_it_takes(studies):
    run = studies["wide"].runs[0]
    live.write(run, "running", seconds=2.0, seconds_left=8.0)
    assert counts(Watcher(studies.values()).look(), "wide")["seconds_left"] == 8 + 7 * 10


def test_a_record_of_another_configuration_waits_and_a_damaged_one_has_failed(studies):
    first, second = studies["quick"].runs[:2]
    record = record_of(first, 90.0)
    record["run"]["recipe"] = record["run"]["recipe"] | {"clip_norm": 9.0}
    records.write(record, first.path)
    second.path.parent.mkdir(parents=True, exist_ok=True)
    second.path.write_text("{")
    state = Watcher([studies["quick"]]).look()
    assert [counts(state, "quick")[key] for key in ("done", "failed", "waiting")] == [0, 1, 7]
    assert state["failed"][0]["run"] == second.id
    assert "damaged record" in state["failed"][0]["reason"]


def test_a_record_of_other_data_waits_from_the_moment_the_data_change(studies):
    for run in studies["quick"].runs:
        finish(run, 1.0)
    watcher = Watcher([studies["quick"]])
    assert counts(watcher.look(), "quick")["done"] == 8
    records.write_text(datasets.text({"digest": "e" * 64}), datasets.path_of("digits"))
    assert [counts(watcher.look(), "quick")[key] for key in ("done", "waiting")] == [0, 8]
    records.write_text(datasets.text({"digest": "d" * 64}), datasets.path_of("digits"))
    assert counts(watcher.look(), "quick")["done"] == 8


def test_a_process_that_has_ended_leaves_a_stopped_run(studies):
    run = studies["quick"].runs[0]
    live.write(run, "running", step=5, steps=80)
    said = json.loads(live.path_of(run).read_text())
    live.path_of(run).write_text(json.dumps(said | {"pid": 2**22 + 1}))  # above the kernel's largest
    state = Watcher([studies["quick"]]).look()
    assert state["running"] == []
    assert state["stopped"] == [{"run": run.id, "step": 5, "steps": 80, "reason": "its process has ended"}]


def test_infinite_and_unknown_numbers_are_valid_json(studies):
    live.write(studies["quick"].runs[0], "running", epsilon=float("inf"), accuracy=float("nan"))
    state = Watcher([studies["quick"]]).look()
    assert (state["running"][0]["epsilon"], state["running"][0]["accuracy"]) == ("inf", None)
    json.dumps(state, allow_nan=False)


def test_a_record_is_read_again_only_when_it_has_changed(studies, monkeypatch):
    runs = studies["quick"].runs
    for run in runs:
        finish(run, 1.0)
    watcher, read = Watcher([studies["quick"]]), []
    monkeypatch.setattr(records, "read", lambda path, read_=records.read: read.append(path) or read_(path))
    watcher.look()
    watcher.look()
    assert len(read) == 8
    stamp = watcher.stamp(runs[0].id)
    time.sleep(0.01)
    finish(runs[0], 2.0, 91.0)
    runs[1].path.unlink()
    state = watcher.look()
    assert len(read) == 9
    assert watcher.finished[runs[0].id].accuracy == 91.0
    assert watcher.stamp(runs[0].id) != stamp
    assert watcher.stamp(runs[1].id) is None
    assert counts(state, "quick")["done"] == 7
