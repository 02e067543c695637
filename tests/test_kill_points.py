"""One process of several runs, and a fault at a random moment of it: whatever is left is whole, and the end is the same."""

from pathlib import Path

import pytest

from bench import BenchError
from bench.training import checkpoint
from tests import kill_points


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return kill_points.Study(tmp_path_factory.mktemp("kill-points"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(kill_points.KINDS)), ids=kill_points.KINDS)
def test_a_point_of_every_kind(study, number):
    point = kill_points.examine(number, 1, study)
    assert point.equal, point


@pytest.mark.slow
def test_other_numbers_and_half_a_file_would_be_noticed(study, tmp_path, monkeypatch):
    run = study.runs[0]
    with monkeypatch.context() as patch:
        patch.setitem(study.whole, run.id, study.whole[run.id].replace("completed", "diverged"))
        assert f"{run.id}: other numbers" in kill_points.examine(0, 1, study).problem
    monkeypatch.chdir(tmp_path)
    kill_points.write_study(tmp_path)
    assert study.read_all() == (0, 0)
    checkpoint.FOLDER.mkdir(parents=True)
    (checkpoint.FOLDER / "0.pt").write_bytes(b"half")
    with pytest.raises(AssertionError, match="a state that is damaged"):
        study.read_all()
    (checkpoint.FOLDER / "0.pt").unlink()
    run.path.parent.mkdir(parents=True)
    run.path.write_text((study.folder / run.path).read_text()[:500])
    with pytest.raises(BenchError, match="damaged record"):
        study.read_all()
    run.path.unlink()
    Path("results/left.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting property name"):
        study.read_all()


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_a_hundred_points(study, first):
    points = [kill_points.examine(number, 0, study) for number in range(first, first + 10)]
    assert [point for point in points if not point.equal] == []
