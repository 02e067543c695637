"""A disk that fills up: a sentence, nothing half-written, and the run goes on where it can."""

import errno
import os
import platform
import subprocess
from pathlib import Path

import pytest
import yaml

from bench import data
from bench.__main__ import main
from bench.evidence import live, records
from bench.plan import resolve
from bench.training import loop
from bench.training.checkpoint import Checkpoint
from tests.training.test_checkpoint import ALWAYS, CONFIG, small
from tests.training.test_loop import numbers


@pytest.fixture
def full(monkeypatch):
    """A function that fills the disk for all files whose name has one of some parts, half-way through each."""

    def fill(*parts: str):
        real = Path.open

        def open_full(path, mode="r", *more, **options):
            file = real(path, mode, *more, **options)
            if "w" in mode and any(part in path.name for part in parts):
                write = file.write

                def half(content):
                    write(content[: len(content) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

                return _Full(file, half)
            return file

        monkeypatch.setattr(Path, "open", open_full)

    return fill


class _Full:
    """An open file that has another `write`."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def test_a_checkpoint_that_cannot_be_saved_ends_no_run(tmp_path, full, capsys):
    run, dataset = small("digits")
    whole = numbers(loop.train(run, dataset, 1.5, ALWAYS))
    full(".pt")
    record = loop.train(run, dataset, 1.5, ALWAYS, checkpoint=Checkpoint(run, 1.5, tmp_path))
    assert numbers(record) == whole
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in said] == [
        f"the state of step {step} is not saved (No space left on device)" for step in range(1, 6)
    ]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(loop.Stopped, match="stopped after step 1 of 6; the same command goes on from an earlier step"):
        loop.train(run, dataset, 1.5, ALWAYS, checkpoint=Checkpoint(run, 1.5, tmp_path), stop=lambda: True)


def test_a_full_disk_while_decoding_costs_the_cache_only(tmp_path, monkeypatch, full, capsys):
    monkeypatch.chdir(tmp_path)
    entry = CONFIG["datasets"]["digits"]
    first = data.load("digits", entry)
    (cache,) = data.CACHE.iterdir()
    cache.unlink()
    full(".pt")
    assert data.load("digits", entry).digest == first.digest
    assert "not kept (" in capsys.readouterr().err
    assert list(data.CACHE.iterdir()) == []


def test_what_killed_processes_left_of_a_cache_goes_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = CONFIG["datasets"]["digits"]
    data.load("digits", entry)
    (cache,) = data.CACHE.iterdir()
    cache.unlink()
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, living = (cache.with_name(f".{cache.name}.{platform.node()}-{pid}.partial") for pid in (dead.pid, os.getppid()))
    for path in (left, living):
        path.write_bytes(b"half")
    data.load("digits", entry)
    assert sorted(data.CACHE.iterdir()) == sorted([cache, living])


def test_a_record_that_cannot_be_written_is_a_sentence_and_keeps_the_state(tmp_path, monkeypatch, shipped, full, capsys):
    """The run goes on from its last state once there is space; what is said of it meanwhile may be lost."""
    monkeypatch.chdir(tmp_path)
    shipped["recipes"]["digits"] |= {"batch_size": 32, "steps": 3, "evaluate_every": 3}
    shipped["machine"] |= {"device": "cpu", "checkpoint_minutes": 0}
    Path("config.yaml").write_text(yaml.safe_dump(shipped))
    run = resolve.studies_of(shipped)["quick"].runs[-1]
    with monkeypatch.context() as patch:
        patch.setattr(live, "FOLDER", Path("elsewhere"))
        full("seed7.json")
        assert main(["train", run.id]) == 1
    printed = capsys.readouterr().err
    assert "seed7.json: No space left on device; free some space and give the same command again" in printed
    assert "Traceback" not in printed
    assert not list(Path("results").rglob("*seed7.json*"))
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert main(["train", run.id]) == 0
    assert records.read(run.path)["cost"]["resumed_at_step"] == 2
    assert list(Path("results/checkpoints").iterdir()) == []
