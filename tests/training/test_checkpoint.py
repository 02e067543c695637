"""Stopped and killed runs end in the record of the uninterrupted one."""

import dataclasses
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from bench import ROOT, data
from bench.evidence import records
from bench.plan import config, resolve, spec
from bench.training import checkpoint as checkpoints
from bench.training import loop
from bench.training.checkpoint import Checkpoint
from tests.training.test_loop import MACHINE, numbers

CONFIG = config.load(ROOT / "config.yaml", local=False)
ALWAYS = MACHINE | {"engine": "fast", "checkpoint_minutes": 0}


def small(name: str) -> tuple[spec.Run, data.Dataset]:
    """A run of recipe `name` on random images, in all but size as configured: its optimiser, schedule, views, average."""
    studies = resolve.studies_of(CONFIG).values()
    run = next(run for study in studies for run in study.runs if run.recipe_name == name)
    model = resolve.model_of(CONFIG, "resnet9-w8", "scalenorm")
    sizes = {"batch_size": 8.0, "steps": 6, "evaluate_every": 2}
    if run.setting("views") > 2:
        sizes["views"] = 2
    if run.setting("warmup"):
        sizes["warmup"] = 2
    run = dataclasses.replace(run, recipe=run.recipe | sizes, model=model)
    torch.manual_seed(0)
    channels = len(run.dataset["mean"])
    images = torch.randint(0, 256, (60, channels, 16, 16), dtype=torch.uint8)
    labels = torch.randint(0, 10, (60,))
    return run, data.Dataset(
        name=run.dataset["name"], label="Noise", official=False, digest="0", classes=10, mean=(0.5,) * channels,
        std=(0.3,) * channels, train_images=images[:40], train_labels=labels[:40], test_images=images[40:],
        test_labels=labels[40:],
    )  # fmt: skip


def kinds() -> list[str]:
    """A recipe of every kind in the configuration: those that differ in lengths and rates only are one to a checkpoint."""
    settings = ("augmentation", "views", "schedule", "warmup", "ema", "precision", "budget")
    found = {}
    for name, recipe in CONFIG["recipes"].items():
        what = [recipe["optimizer"]["name"], *(str(recipe.get(key)) for key in settings if key != "views")]
        found.setdefault((*what, recipe.get("views", 1) > 1), name)
    return sorted(found.values())


@pytest.mark.parametrize("recipe", kinds())
def test_a_run_stopped_after_every_step_ends_in_the_same_record(recipe, tmp_path):
    run, dataset = small(recipe)
    whole = loop.train(run, dataset, 1.5, ALWAYS)
    checkpoint = Checkpoint(run, 1.5, tmp_path)
    starts = 0
    while True:
        starts += 1
        try:
            record = loop.train(run, dataset, 1.5, ALWAYS, checkpoint=checkpoint, stop=lambda: True)
            break
        except loop.Stopped as stopped:
            assert f"stopped after step {starts} of 6" in str(stopped)
    assert starts == 6
    assert numbers(record) == numbers(whole)
    assert (record["cost"]["resumed_at_step"], whole["cost"]["resumed_at_step"]) == (5, 0)


def _run(run, dataset, folder):
    record = loop.train(run, dataset, 1.5, ALWAYS, checkpoint=Checkpoint(run, 1.5, folder))
    (folder / "numbers.json").write_text(numbers(record))


@pytest.mark.parametrize("recipe", kinds())
def test_a_run_killed_at_twenty_random_moments_ends_in_the_same_record(recipe, tmp_path):
    run, dataset = small(recipe)
    run = dataclasses.replace(run, recipe=run.recipe | {"steps": 20, "evaluate_every": 5})
    start = time.perf_counter()
    whole = numbers(loop.train(run, dataset, 1.5, ALWAYS))
    about = time.perf_counter() - start
    chance, fork = random.Random(0), multiprocessing.get_context("fork")
    for _ in range(20):
        process = fork.Process(target=_run, args=(run, dataset, tmp_path))
        process.start()
        process.join(chance.uniform(0, about / 6))
        process.kill()
        process.join()
    _run(run, dataset, tmp_path)
    assert (tmp_path / "numbers.json").read_text() == whole


def test_the_checkpoint_belongs_to_its_specification(tmp_path):
    run, dataset = small("digits")
    with pytest.raises(loop.Stopped):
        loop.train(run, dataset, 1.5, ALWAYS, checkpoint=Checkpoint(run, 1.5, tmp_path), stop=lambda: True)
    assert Checkpoint(run, 1.5, tmp_path).load()["step"] == 1
    edited = dataclasses.replace(run, recipe=run.recipe | {"clip_norm": 2.0})
    assert Checkpoint(edited, 1.5, tmp_path).load() is None
    assert Checkpoint(run, 1.6, tmp_path).load() is None


def test_a_damaged_checkpoint_starts_over(tmp_path):
    run, _ = small("digits")
    checkpoint = Checkpoint(run, 1.5, tmp_path)
    checkpoint.save({"step": 3, "tensor": torch.ones(2)})
    whole = checkpoint.path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole.replace(b"step", b"stop")):
        checkpoint.path.write_bytes(damaged)
        assert checkpoint.load() is None
    checkpoint.path.write_bytes(whole)
    assert checkpoint.load()["step"] == 3
    checkpoint.delete()
    assert list(tmp_path.iterdir()) == []


def test_sources_that_only_moved_code_go_on_from_their_predecessors(tmp_path, monkeypatch):
    run, _ = small("digits")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "source_digest", lambda: "predecessor")
        Checkpoint(run, 1.5, tmp_path).save({"step": 3})
    assert Checkpoint(run, 1.5, tmp_path).load() is None
    monkeypatch.setattr(checkpoints, "SAME_NUMBERS", ("predecessor",))
    assert Checkpoint(run, 1.5, tmp_path).load() == {"step": 3}


def test_a_lock_is_seen_by_others_and_gone_afterwards(tmp_path):
    run, _ = small("digits")
    with Checkpoint(run, 1.5, tmp_path).lock() as mine:
        assert mine
        # other noise, other sources: the run of this id is still being trained
        with Checkpoint(run, 9.0, tmp_path).lock() as second:
            assert not second
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_trains_all_the_same(tmp_path, monkeypatch, capsys):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(checkpoints.fcntl, "flock", refuse)
    with Checkpoint(small("digits")[0], 1.5, tmp_path).lock() as mine:
        assert mine
    assert "no locks on this file system (No locks available)" in capsys.readouterr().err


def test_files_in_the_making_name_their_machine(tmp_path, monkeypatch):
    """Two nodes may have processes of one id that write the same file."""
    made = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: made.append(path.name) or replace(path, target))
    for node in ("one", "two"):
        monkeypatch.setattr("platform.node", lambda node=node: node)
        Checkpoint(small("digits")[0], 1.5, tmp_path).save({"step": 1})
        records.write_text("x", tmp_path / "record.json")
    assert len(set(made)) == 4


@pytest.fixture
def user(tmp_path, shipped):
    """A folder with a configuration whose run is long enough to be interrupted, and a way to train it."""
    shipped["recipes"]["digits"] |= {"batch_size": 64, "steps": 60, "evaluate_every": 30}
    shipped["machine"] |= {"device": "cpu"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped))
    run = resolve.studies_of(shipped)["quick"].runs[0]
    command = [sys.executable, "-m", "bench", "train", run.id]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(*arguments: str) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *arguments], cwd=tmp_path, env=environment, **pipes)

    return run, tmp_path, start


@pytest.mark.slow
def test_stop_after_ends_with_75_and_goes_on(user):
    run, folder, start = user
    process = start("--stop-after", "0s")
    _, errors = process.communicate()
    assert process.returncode == 75
    assert "stopped after step 1 of 60; the same command goes on from there" in errors
    assert not (folder / run.path).exists()
    process = start()
    process.communicate()
    assert process.returncode == 0
    record = records.read(folder / run.path)
    assert record["cost"]["resumed_at_step"] == 1
    assert list((folder / "results/checkpoints").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_save_a_checkpoint(user, number, code):
    run, folder, start = user
    process = start()
    said = folder / f"results/live/{run.id}.json"
    while not (said.exists() and json.loads(said.read_text())["step"]):  # it trains
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code
    assert len(list((folder / "results/checkpoints").glob("*.pt"))) == 1
    assert not (folder / run.path).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_are_answered_while_it_calibrates(user, number, code):
    """A calibration that takes a minute: it is ended in its middle, and nothing half-written is left."""
    run, folder, _ = user
    program = (
        "import sys, time; from pathlib import Path; from bench.__main__ import main; from bench.training import runner; "
    )
    program += "runner.noise_of = lambda *_: Path('calibrating').touch() or time.sleep(60); sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", run.id], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (folder / "calibrating").exists():
        assert process.poll() is None
        time.sleep(0.02)
    asked = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate()
    assert time.monotonic() - asked < 30
    assert process.returncode == code
    assert errors == f"{run.id}: stopped before its first step; the same command begins it\n"
    assert not list(folder.rglob("*.partial"))
