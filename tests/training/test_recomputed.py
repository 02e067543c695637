"""What a record says of itself follows from the rest of it, or it is not taken in."""

import copy
import json
import math
from pathlib import Path

import pytest
import yaml

from bench import RESULTS_VERSION
from bench.__main__ import main
from bench.evidence import images, records
from bench.plan import resolve
from bench.report import reference
from bench.training import recomputed, runner
from tests.training.test_runner import NEVER


@pytest.fixture(scope="module")
def made(tmp_path_factory, _shipped):
    """Records of one run at epsilon 8, one without privacy and one without noise, as files hold them."""
    folder = tmp_path_factory.mktemp("made")
    content = json.loads(json.dumps(_shipped))
    content["machine"] |= {"device": "cpu"}
    content["recipes"]["digits"] |= {"batch_size": 32, "steps": 4, "evaluate_every": 2}
    content["recipes"]["clipped"] = content["recipes"]["digits"] | {"mechanism": {"noise": False}}
    content["studies"] = {"quick": content["studies"]["quick"] | {"variants": ["baseline"], "epsilons": [8, math.inf]}}
    content["studies"]["quick"] |= {"seeds": 1, "recipe": ["digits", "clipped"]}
    content["claims"] = {}
    runs = resolve.studies_of(content)["quick"].runs
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("config.yaml").write_text(yaml.safe_dump(content))
        assert runner.train_runs(list(runs), content, NEVER, missing_only=True) == 0
        return folder, {run.id.split("/", 1)[0] + f"-{run.epsilon:g}": records.read(run.path) for run in runs}


def edited(record: dict, path: str, value) -> list[str]:
    record = copy.deepcopy(record)
    inside, _, key = path.rpartition(".")
    (record[inside] if inside else record)[key] = value
    return recomputed.disagreements(record)


def test_honest_records_agree(made):
    assert set(made[1]) == {"digits-8", "digits-inf", "clipped-8"}
    for record in made[1].values():
        assert recomputed.disagreements(record) == []


def test_the_committed_records_agree():
    now = [r for r in reference.read().values() if r["run"]["results_version"] == RESULTS_VERSION]
    assert [problem for record in now for problem in recomputed.disagreements(record)] == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("privacy.epsilon_rdp", 7.5, "privacy.epsilon_rdp: 7.5, and 7.9999"),
        ("privacy.epsilon_pld", 1.0, "privacy.epsilon_pld: 1.0, and "),
        ("privacy.mu", 0.1, "privacy.mu: 0.1, and "),
        ("privacy.noise_multiplier", 0.5, "privacy.epsilon_rdp: 7.99"),
        ("privacy.noise_multiplier", 1e-3, "cannot be recomputed (Beyond("),
        ("privacy.sample_rate", 0.01, "privacy.sample_rate: 0.01, and 0.02226"),
        ("privacy.steps", 3, "privacy.steps: 3, and 4 follows"),
        ("privacy.delta", 1e-3, "privacy.delta: 0.001, and 0.0001 follows"),
        ("privacy.clip_norm", 9.0, "privacy.clip_norm: 9.0, and 1.0 follows"),
        ("privacy.private", False, "privacy.private: False, and True follows"),
        ("privacy.train_size", 9999, "privacy.train_size: 9999, and 1437 follows"),
        ("data.train_size", 50000, "privacy.sample_rate: 0.0222"),
        ("result.accuracy", 99.0, "result.accuracy: 99.0, and "),
        ("result.best_epoch_accuracy", 99.0, "result.best_epoch_accuracy: 99.0, and "),
        ("result.correct", images.pack([True] * 360), "its image bits say 100.0 %"),
        ("result.correct", "!", "cannot be recomputed ("),
        ("curve", [], "cannot be recomputed ("),
        ("status", "diverged", "result.accuracy: "),
        ("privacy", {}, "cannot be recomputed (KeyError"),
    ],
)
def test_what_was_edited_is_named_with_both_values(made, path, value, expected):
    problems = edited(made[1]["digits-8"], path, value)
    assert any(expected in problem for problem in problems), problems
    assert all(problem.startswith("digits/resnet9-w8/baseline/eps8/seed0: ") for problem in problems)


@pytest.mark.parametrize("name", ["digits-inf", "clipped-8"])
@pytest.mark.parametrize(("key", "value"), [("epsilon_rdp", 8.0), ("private", True), ("noise_multiplier", 1.0)])
def test_a_run_that_is_not_private_does_not_pass_as_one(made, name, key, value):
    assert edited(made[1][name], f"privacy.{key}", value)


def test_promote_refuses_them_and_takes_nothing_in(made, monkeypatch, capsys, tmp_path):
    folder, _ = made
    monkeypatch.chdir(folder)
    monkeypatch.setattr("bench.ROOT", tmp_path)
    for function in (reference.read, reference.promote):
        monkeypatch.setattr(function, "__defaults__", (tmp_path,))
    paths = sorted(Path("results/runs").rglob("seed0.json"))
    for path in paths:
        record = json.loads(path.read_text())
        record["provenance"] |= {"dirty": False, "commit": "c" * 40}  # this checkout may have changes
        path.write_text(json.dumps(record))
    whole = paths[1].read_text()
    record = json.loads(whole)
    record["result"]["accuracy"] += 1
    paths[1].write_text(json.dumps(record))
    assert main(["promote", "--study", "quick"]) == 1
    printed = capsys.readouterr().err
    assert f"{record['run']['id']}: result.accuracy: {record['result']['accuracy']!r}, and " in printed
    assert "nothing was taken in; delete these records and run their study again" in printed
    assert not (tmp_path / reference.RECORDS).exists()
    paths[1].write_text(whole)
    assert main(["promote", "--study", "quick"]) == 0
    assert len(reference.read(tmp_path)) == 3
