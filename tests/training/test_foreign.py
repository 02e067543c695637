"""Checkpoints and caches from elsewhere: damaged, of another run, or made to do harm."""

import dataclasses
import io
import os
import re
from pathlib import Path

import torch

from bench import ROOT, data
from bench.training import checkpoint as checkpoints
from bench.training.checkpoint import Checkpoint
from tests.training.test_checkpoint import CONFIG, small


def test_a_state_of_another_run_is_not_used_under_this_ones_name(tmp_path, capsys):
    run, _ = small("digits")
    Checkpoint(run, 1.5, tmp_path).save({"step": 3})
    for other in (
        Checkpoint(dataclasses.replace(run, seed=1), 1.5, tmp_path),
        Checkpoint(run, 1.6, tmp_path),
        Checkpoint(run, 1.5, tmp_path, digest="of other data"),
    ):
        other.path.write_bytes(Checkpoint(run, 1.5, tmp_path).path.read_bytes())
        assert other.load() is None
        assert "damaged, or of another run; it is not used" in capsys.readouterr().err


class _Runs:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_no_code_in_a_state_or_cache_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run, _ = small("digits")
    checkpoint = Checkpoint(run, 1.5, tmp_path)
    for content in ({"step": 3, "more": _Runs()}, _Runs()):
        checkpoint.save({"step": 3})
        buffer = io.BytesIO()
        torch.save(content, buffer)
        head = checkpoints._seal(checkpoint._key(checkpoints.source_digest()), buffer.getvalue())
        checkpoint.path.write_bytes(head + b"\n" + buffer.getvalue())
        assert checkpoint.load() is None
    first = data.load("digits", CONFIG["datasets"]["digits"])
    (cache,) = data.CACHE.iterdir()
    torch.save(_Runs(), cache)
    assert data.load("digits", CONFIG["datasets"]["digits"]).digest == first.digest
    assert not Path("pwned").exists()


def test_pickles_are_loaded_in_one_place_whose_md5_is_checked():
    """Everything else that a user can be handed is JSON, CSV, YAML by a safe loader, or tensors without code."""
    loads = re.compile(
        r"pickle\.loads?\(|torch\.load\((?!.*weights_only=True)|allow_pickle|joblib\.load"
        r"|yaml\.(?:unsafe_|full_)?load\((?!.*(?:SafeLoader|LOADER))"
    )
    found = [
        (path.relative_to(ROOT).as_posix(), line.strip())
        for folder in ("bench", "workflow")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".smk")
        for line in path.read_text().splitlines()
        if loads.search(line)
    ]
    assert [path for path, _ in found] == ["bench/data/cifar10.py"]
