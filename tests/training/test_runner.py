"""Several runs in one process, and several processes at the same runs."""

import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from PIL import Image

from bench import machine
from bench.__main__ import main
from bench.evidence import datasets, images, kept, live, records
from bench.plan import resolve
from bench.training import checkpoint, loop, runner
from bench.training.checkpoint import Checkpoint
from bench.training.recipe import noise_of

NEVER = type("Never", (), {"code": 75, "__call__": lambda self: False})()


@pytest.fixture
def runs(shipped, tmp_path, monkeypatch):
    """Four runs of three steps, in a folder of their own, and the configuration."""
    monkeypatch.chdir(tmp_path)
    shipped["machine"] |= {"device": "cpu"}
    shipped["recipes"]["digits"] |= {"batch_size": 32, "steps": 3, "evaluate_every": 3}
    shipped["studies"]["quick"] |= {"variants": ["baseline", "scalenorm"], "epsilons": [math.inf], "seeds": 2}
    return list(resolve.studies_of(shipped)["quick"].runs), shipped


def test_missing_runs_are_trained_and_finished_ones_are_not(runs, capsys):
    runs, content = runs
    assert runner.train_runs(runs[:1], content, NEVER, missing_only=False) == 0
    first = runs[0].path.read_text()
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
    assert runs[0].path.read_text() == first
    assert len(records.collect(runs)[0]) == 4
    assert capsys.readouterr().out.count(" % after ") == 4
    assert list(Checkpoint(runs[0], 0.0).path.parent.iterdir()) == []


def test_a_run_of_another_specification_is_missing(runs):
    runs, content = runs
    runner.train_runs(runs[:1], content, NEVER, missing_only=True)
    edited = dataclasses.replace(runs[0], recipe=runs[0].recipe | {"clip_norm": 9.0})
    assert not records.matches(records.read(runs[0].path), edited)
    runner.train_runs([edited], content, NEVER, missing_only=True)
    assert records.matches(records.read(runs[0].path), edited)


def test_a_run_that_another_process_trains_is_left_to_it(runs, monkeypatch):
    runs, content = runs
    sigma = noise_of(runs[1], 1437)["noise_multiplier"]
    with Checkpoint(runs[1], sigma).lock() as mine:
        assert mine
        assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
        assert [run.path.exists() for run in runs] == [True, False, True, True]
        # alone, it is waited for until the command is to stop
        monkeypatch.setattr(checkpoint, "POLL", 0.01)
        asked = iter([False, False])
        stop = type("Stop", (), {"code": 75, "__call__": lambda self: next(asked, True)})()
        assert runner.train_runs([runs[1]], content, stop, missing_only=False) == 75
        assert next(asked, None) is None
    assert not runs[1].path.exists()
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
    assert runs[1].path.exists()


def test_a_run_that_ended_well_is_not_trained_again(runs, capsys):
    """Snakemake deletes the record of a job that it takes for failed, as at a time limit."""
    runs, content = runs
    runner.train_runs(runs[:1], content, NEVER, missing_only=False)
    first = runs[0].path.read_text()
    runs[0].path.unlink()
    assert runner.train_runs(runs[:1], content, NEVER, missing_only=False) == 0
    assert runs[0].path.read_text() == first
    assert "finished before" in capsys.readouterr().out
    kept.release([records.read(runs[0].path)])
    runs[0].path.unlink()
    runner.train_runs(runs[:1], content, NEVER, missing_only=False)
    assert runs[0].path.read_text() != first  # other times


def test_what_a_process_left_that_was_killed_after_its_record_goes(runs, monkeypatch):
    runs, content = runs
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "delete", lambda self: self.save({"step": 3}))
        patch.setattr(live, "delete", lambda run: None)
        runner.train_runs(runs[:1], content, NEVER, missing_only=True)
    (state,) = checkpoint.FOLDER.glob("*.pt")
    record = runs[0].path.read_text()
    with Checkpoint(runs[0], 0.0).lock():  # by another process, which is still at its end
        runner.train_runs(runs[:1], content, NEVER, missing_only=True)
        assert state.exists()
    runner.train_runs(runs[:1], content, NEVER, missing_only=True)
    assert not state.exists()
    assert not live.path_of(runs[0]).exists()
    assert runs[0].path.read_text() == record


def test_what_is_kept_is_of_this_specification_and_noise(runs):
    runs, content = runs
    runner.train_runs(runs[:1], content, NEVER, missing_only=False)
    digest = records.read(runs[0].path)["data"]["digest"]
    assert kept.recall(runs[0], 0.0, digest)
    assert kept.recall(runs[0], 0.1, digest) is None
    assert kept.recall(runs[0], 0.0, "e" * 64) is None
    assert kept.recall(dataclasses.replace(runs[0], recipe=runs[0].recipe | {"clip_norm": 9.0}), 0.0, digest) is None
    kept.path_of(runs[0].id).write_text("{")
    assert kept.recall(runs[0], 0.0, digest) is None


@pytest.fixture
def pictures(runs, tmp_path):
    """The same runs on an image folder of 16 training and 8 test images, and what changes one of its images in place."""
    runs, content = runs
    for number in range(24):
        place = tmp_path / "pictures" / ("train" if number < 16 else "test") / ("ant", "bee")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 10 * number).save(place / f"{number}.bmp")
    content["datasets"]["digits"] |= {"source": "image_folder", "path": "pictures"}
    content["recipes"]["digits"]["batch_size"] = 4

    def overwrite():
        Image.new("L", (16, 16), 255).save(tmp_path / "pictures/train/ant/0.bmp")

    return list(resolve.studies_of(content)["quick"].runs), content, overwrite


def test_runs_of_changed_data_are_trained_again(pictures, capsys):
    runs, content, overwrite = pictures
    runner.train_runs(runs, content, NEVER, missing_only=True)
    before = [records.read(run.path)["data"]["digest"] for run in runs]
    assert len(set(before)) == 1
    assert datasets.digest_of("digits") == before[0]
    overwrite()
    runner.train_runs(runs[:1], content, NEVER, missing_only=False)  # by hand, and not from what is kept
    assert "finished before" not in capsys.readouterr().out
    now = records.read(runs[0].path)["data"]["digest"]
    assert now != before[0]
    found, missing = records.collect(runs)
    assert [record["run"]["id"] for record in found] == [runs[0].id]
    assert missing == {run.id: records.OTHER_DATA for run in runs[1:]}
    first = runs[0].path.read_text()
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
    assert {records.read(run.path)["data"]["digest"] for run in runs} == {now}
    assert runs[0].path.read_text() == first
    assert not records.collect(runs)[1]


def test_finished_runs_need_their_data_no_more(pictures):
    runs, content, _ = pictures
    runner.train_runs(runs, content, NEVER, missing_only=True)
    first = [run.path.read_text() for run in runs]
    Path("pictures").rename("elsewhere")
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
    content["datasets"]["digits"]["path"] = "elsewhere"
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
    assert [run.path.read_text() for run in runs] == first


def test_finished_runs_download_nothing(runs, monkeypatch):
    runs, content = runs
    runner.train_runs(runs, content, NEVER, missing_only=True)
    monkeypatch.setattr(runner.data, "load", lambda *a: pytest.fail("loaded"))
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0


def test_a_checkpoint_is_of_the_data_it_began_with(pictures, monkeypatch):
    runs, content, overwrite = pictures
    content["machine"]["checkpoint_minutes"] = 0
    asked = iter([False, True])
    stop = type("Stop", (), {"code": 75, "__call__": lambda self: next(asked, True)})()
    assert runner.train_runs(runs[:1], content, stop, missing_only=False) == 75
    overwrite()
    assert runner.train_runs(runs[:1], content, NEVER, missing_only=False) == 0
    assert records.read(runs[0].path)["cost"]["resumed_at_step"] == 0


def test_a_failed_run_keeps_no_other_from_training(runs, monkeypatch, capsys):
    runs, content = runs
    train = loop.train

    def fails(run, *more):
        if run == runs[1]:
            raise RuntimeError("out of luck")
        return train(run, *more)

    monkeypatch.setattr(loop, "train", fails)
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 1
    assert [run.path.exists() for run in runs] == [True, False, True, True]
    assert f"1 of 4 runs failed: {runs[1].id}" in capsys.readouterr().err
    said = live.read(runs)
    assert list(said) == [runs[1].id]
    assert (said[runs[1].id]["state"], said[runs[1].id]["reason"]) == ("failed", "out of luck")


def test_what_a_run_says_of_itself(runs, monkeypatch):
    runs, content = runs
    said = []
    monkeypatch.setattr(live, "write", lambda run, state, **facts: said.append({"state": state, **facts}))
    runner.train_runs(runs[:1], content, NEVER, missing_only=False)
    assert {entry["state"] for entry in said} == {"running"}
    assert (said[0]["step"], said[-1]["step"], said[-1]["steps"]) == (0, 3, 3)
    assert said[-1]["accuracy"] == records.read(runs[0].path)["result"]["accuracy"]
    assert not list(live.FOLDER.rglob("*.json"))


def test_stopped_in_the_middle_it_goes_on_there(runs, capsys):
    runs, content = runs
    asked = iter([False, False, False, True])  # before the first run, after two of its steps, then before the second run
    stop = type("Stop", (), {"code": 75, "__call__": lambda self: next(asked, True)})()
    assert runner.train_runs(runs, content, stop, missing_only=True) == 75
    assert [run.path.exists() for run in runs] == [True, False, False, False]
    assert "3 of 4 runs are left; the same command goes on" in capsys.readouterr().err
    assert runner.train_runs(runs, content, NEVER, missing_only=True) == 0
    assert all(run.path.exists() for run in runs)


def test_options_that_do_not_go_together(runs, capsys):
    _, content = runs
    Path("config.yaml").write_text(yaml.safe_dump(content))
    assert main(["train", "--study", "quik"]) == 1
    assert main(["train", "--study", "quick", "--epsilon", "5"]) == 1
    assert main(["train", "x/y/z", "--epsilon", "8"]) == 1
    printed = capsys.readouterr().err
    assert "unknown study 'quik' (did you mean 'quick'?)" in printed
    assert "study quick has no runs at epsilon 5" in printed
    assert "--epsilon goes with --study" in printed


def test_a_record_names_the_code_that_was_imported(runs, monkeypatch):
    runs, content = runs
    answers = iter([("a" * 40, False), ("b" * 40, True)])
    monkeypatch.setattr(runner.machine, "commit", lambda: next(answers))
    runner.train_runs(runs[:2], content, NEVER, missing_only=True)
    assert [records.read(run.path)["provenance"]["commit"] for run in runs[:2]] == ["a" * 40] * 2


def test_a_record_says_which_test_images_were_right(runs):
    runs, content = runs
    runner.train_runs(runs[:1], content, NEVER, missing_only=False)
    record = records.read(runs[0].path)
    correct = images.unpack(record)
    assert correct.shape == (360,)
    assert 0 < correct.sum() < 360
    assert 100 * correct.sum() / 360 == record["result"]["accuracy"]


@pytest.mark.parametrize(("steps", "most"), [(10, 6000), (50, 16000)])
def test_a_record_is_small(runs, tmp_path, steps, most):
    """With an evaluation a step: ten of them in 6 kB, fifty in 16 kB, also for the 10,000 test images of CIFAR-10."""
    runs, content = runs
    run = dataclasses.replace(
        runs[2], epsilon=3.0, recipe=runs[2].recipe | {"batch_size": 4, "steps": steps, "evaluate_every": 1}
    )
    assert run.variant == "scalenorm"
    runner.train_runs([run], content, NEVER, missing_only=False, out=Path("record.json"))
    record = records.read(Path("record.json"))
    assert len(record["curve"]) == steps
    record["result"]["correct"] = images.pack([True] * 10_000)
    for point in record["curve"]:
        point["accuracy"] = round(point["accuracy"], 2)  # as of so many images
    records.write(record, Path("large.json"))
    assert Path("record.json").stat().st_size < Path("large.json").stat().st_size <= most


def test_peak_memory_is_of_the_run(runs):
    runs, content = runs
    machine.forget_peak_memory()
    before = machine.peak_memory_mb()
    hog = bytearray(b"x") * (600 * 2**20)
    del hog
    assert machine.peak_memory_mb() > before + 590
    runner.train_runs(runs[:1], content, NEVER, missing_only=True)
    assert records.read(runs[0].path)["cost"]["peak_memory_mb"] < before + 400
