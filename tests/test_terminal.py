"""What terminals show: nothing wraps, and what matters least is dropped first."""

import re
import sys

import pytest

from bench import terminal

FACTS = {
    "run": "digits/resnet9-w8/scalenorm/eps8/seed0",
    "step": 7,
    "steps": 80,
    "epsilon": 5.314,
    "loss": 0.4123,
    "images_per_second": 2510.4,
    "seconds_left": 12.4,
    "accuracy": 91.389,
}
LINE = "digits/resnet9-w8/scalenorm/eps8/seed0  step  7/80  eps 5.31  loss 0.412  2510 img/s  test 91.39 %  12 s left"


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"\033\[[0-9;]*m", "", line) for line in lines]


def test_a_line_of_a_run_says_all_where_there_is_room():
    assert terminal.run_line(FACTS, 200) == LINE
    assert terminal.run_line(FACTS, len(LINE)) == LINE


def test_a_line_of_a_run_loses_the_least_important_first():
    order = ["img/s", "loss", "eps ", "test", "step", "left"]
    gone = []
    for width in range(len(LINE), 0, -1):
        line = terminal.run_line(FACTS, width)
        assert len(line) <= width
        gone += [fact for fact in order if fact not in line and fact not in gone]
    assert gone == order
    at_80 = terminal.run_line(FACTS, 80)
    assert at_80 == "digits/res…8/scalenorm/eps8/seed0  step  7/80  eps 5.31  test 91.39 %  12 s left"


def test_a_line_of_a_run_of_which_little_is_known():
    assert terminal.run_line({"run": "a/b/c/eps8/seed0"}, 80) == "a/b/c/eps8/seed0"
    assert terminal.run_line({"run": "a/b/c/eps8/seed0", "step": 3, "accuracy": None}, 80) == "a/b/c/eps8/seed0  step 3"
    assert terminal.run_line({"run": "a/b/c/epsinf/seed0", "epsilon": float("inf")}, 80) == "a/b/c/epsinf/seed0  eps inf"


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_a_table_of_runs_fits_and_is_aligned(width, colour):
    long = "wrn/wrn16-4-norm-relu-shortcut-relu-norm/shared-norm/eps8/seed0"
    other = {"run": long, "step": 1042, "steps": 2468, "epsilon": "inf", "accuracy": None, "seconds_left": 9000.0}
    lines = plain(terminal.run_table([FACTS, other, {"run": "x/y/z/eps1/seed3"}], width, colour))
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= width
    assert lines[0].endswith("left")
    assert lines[1].endswith("12 s")
    assert lines[2].endswith("2.5 h")
    if width >= 60:
        assert [word in lines[0] for word in ("step", "eps", "test")] == [True] * 3
        assert "7/80  5.31  91.39" in lines[1]
    if width >= 80:
        assert ("━━" if colour else "42 %") in lines[2]


@pytest.mark.parametrize("width", range(1, 40))
def test_a_table_of_runs_fits_anywhere(width):
    for colour in (False, True):
        assert max(map(len, plain(terminal.run_table([FACTS, FACTS | {"run": "x"}], width, colour)))) <= width


def test_a_bar_grows_with_the_fraction_and_keeps_its_width():
    bars = plain([terminal.bar(fraction, 10) for fraction in (0, 0.05, 0.5, 0.99, 1, 2)])
    assert [line.count("━") for line in bars] == [0, 0, 5, 9, 10, 10]
    assert {len(line) for line in bars} == {10}


def test_names_are_cut_in_the_middle():
    assert terminal.shorten("digits/resnet9-w8/baseline/eps8/seed0", 24) == "digits/…eline/eps8/seed0"
    assert terminal.shorten("short", 5) == "short"
    assert [len(terminal.shorten("abcdefgh", width)) for width in range(1, 9)] == list(range(1, 9))


def test_times():
    times = (None, 0.4, 89, 90, 5399, 5400, 47 * 3600, 49 * 3600)
    expected = ["unknown", "0 s", "89 s", "2 min", "90 min", "1.5 h", "47.0 h", "2.0 d"]
    assert [terminal.duration(seconds) for seconds in times] == expected


def test_a_table_drops_columns_only_where_little_of_a_name_is_left():
    rows = [["a" * 30, "1", "22", "333"], ["b", "4", "5", "6"]]
    full = terminal.table(rows, 80, least=(2, 1))
    assert full[1] == ["b".ljust(30), "4", " 5", "  6"]
    assert [len(row) for row in terminal.table(rows, 34, least=(2, 1))] == [4, 4]
    assert terminal.table(rows, 28, least=(2, 1))[0][1:] == ["1", "333"]
    assert all(len("  ".join(row)) <= 20 for row in terminal.table(rows, 20, least=(2, 1)))


def test_a_command_works_where_it_is_printed(tmp_path, monkeypatch):
    """In the environment of `make`, with and without the entry point; with `bench` on the path; with neither."""
    root = tmp_path / "checkout"
    (root / ".venv/bin").mkdir(parents=True)
    monkeypatch.setattr(terminal, "ROOT", root)
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    monkeypatch.chdir(root)
    assert terminal.command("train", "a/b") == ".venv/bin/python -m bench train a/b"
    (root / ".venv/bin/bench").touch(mode=0o755)
    assert terminal.command("run", "--", "--unlock") == ".venv/bin/bench run -- --unlock"
    assert terminal.command("show", "it's") == """.venv/bin/bench show 'it'"'"'s'"""
    (root / "folder").mkdir()
    monkeypatch.chdir(root / "folder")
    assert terminal.command("check") == "../.venv/bin/bench check"
    other = tmp_path / "conda"
    (other / "bin").mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(other))
    monkeypatch.setattr(sys, "executable", str(other / "bin/python"))
    monkeypatch.setenv("PATH", str(other / "bin"))
    assert terminal.command("check") == "python -m bench check"
    (other / "bin/bench").write_text("#!/bin/sh\n")
    (other / "bin/bench").chmod(0o755)
    assert terminal.command("check") == "bench check"
