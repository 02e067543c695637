"""`bench audit`, with games made up."""

from pathlib import Path

import pandas as pd
import pytest

from bench.__main__ import main
from bench.audit import command
from bench.audit.sabotage import SABOTAGES
from tests.audit.test_games import made_up


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def play(monkeypatch, p):
    asked = []

    def pretend(engine, case, seed, device):
        asked.append((engine, case, seed))
        return made_up(case, p(case), seed)

    monkeypatch.setattr(command, "audit", pretend)
    return asked


def test_a_table_and_exit_code_0_where_all_is_as_it_should_be(folder, monkeypatch, capsys):
    asked = play(monkeypatch, lambda case: 0.5 if case == "honest" else 0.0)
    assert main(["audit", "--sabotage", "2"]) == 0
    assert len(asked) == 2 * (1 + 2 * len(SABOTAGES))
    assert {seed for engine, case, seed in asked if (engine, case) == ("fast", "honest")} == {0}
    assert {seed for engine, case, seed in asked if (engine, case) == ("opacus", "honest")} == {1}
    made = pd.read_csv(folder / "results/audit.csv")
    assert len(made) == 1 + len(SABOTAGES)  # the made-up games say fast, whoever asks
    printed = capsys.readouterr().out
    assert "passed, 0 of 2" in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize(("p", "word"), [(lambda case: 0.0, "honest: alarm"), (lambda case: 0.5, "no noise: missed")])
def test_exit_code_1_where_an_honest_engine_alarms_or_a_sabotage_is_missed(folder, monkeypatch, capsys, p, word):
    play(monkeypatch, p)
    assert main(["audit", "--engine", "fast", "--sabotage", "1", "--out", "other.csv"]) == 1
    assert word in capsys.readouterr().out
    assert Path("other.csv").exists()
