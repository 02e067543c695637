"""Committed records put back to where runs leave theirs: only the same runs on the same data, all of them or none."""

import shutil

import pytest

from bench.__main__ import main
from bench.evidence import records
from bench.report import reference


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """An empty folder that runs study quick-again, and the committed records in a repository of their own."""
    (tmp_path / "repository").mkdir()
    shutil.copytree(reference.ROOT / reference.FOLDER, tmp_path / "repository" / reference.FOLDER)
    monkeypatch.setattr(reference, "read", lambda root=None, read=reference.read: read(tmp_path / "repository"))
    shutil.copy(reference.ROOT / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_put_back_is_what_is_committed_and_what_stands_here_stays(committed, capsys):
    mine = committed / "results/runs/digits/resnet9-w8/baseline/eps1/seed9.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert main(["restore", "quick-again"]) == 0
    assert "23 records put back, 1 were here, 0 of 24 runs are missing" in capsys.readouterr().out
    assert mine.read_text() == "mine"
    by_id = reference.read()
    found = [records.read(path) for path in (committed / "results/runs").rglob("*.json") if path != mine]
    assert found == [by_id[record["run"]["id"]] for record in found] and len(found) == 23


def test_runs_of_other_data_are_not_put_back(committed, capsys):
    path = committed / "repository" / reference.RECORDS
    path.write_text(path.read_text().replace('"classes":10,"digest":"', '"classes":10,"digest":"0'))
    assert main(["restore", "quick-again"]) == 1
    assert "digits: 24 committed runs were made from other data" in capsys.readouterr().err
    assert not (committed / "results/runs").exists()


def test_nothing_to_put_back_gets_a_sentence(committed, capsys):
    (committed / "repository" / reference.RECORDS).write_text("")
    assert main(["restore", "quick-again"]) == 1
    assert "has none of its runs; `" in capsys.readouterr().err
    assert not (committed / "results").exists()
