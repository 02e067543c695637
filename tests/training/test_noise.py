"""Noise that was found for one budget is used for that budget only."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import yaml

from bench import BenchError
from bench.__main__ import main
from bench.plan import resolve, spec
from bench.training import noise

N = 1437


@pytest.fixture
def run(quick):
    return next(run for run in quick.values() if run.epsilon == 8)


@pytest.fixture
def file(run, tmp_path):
    """What `calibrate` writes for the run's budget on N samples."""
    path = tmp_path / "n.json"
    path.write_text(json.dumps(noise.facts(run, N)))
    return path


def changed(run, **keys):
    return dataclasses.replace(run, recipe=run.recipe | keys)


def test_it_is_used_by_runs_of_its_budget(run, file):
    sigma = noise.read(file, run, N)
    assert sigma == noise.noise_of(run, N)["noise_multiplier"] > 0
    # what decides no noise makes no difference
    assert noise.read(file, dataclasses.replace(changed(run, clip_norm=9.0), variant="other", seed=99), N) == sigma


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"steps": 800}, "steps 80 (this run: 800)"),
        ({"batch_size": 96}, "batch_size 192 (this run: 96)"),
        ({"delta": 1e-6}, "delta 0.0001 (this run: 1e-06)"),
        ({"accountant": "pld"}, "accountant rdp (this run: pld)"),
        ({"budget": "proxy", "proxy_for_batch_size": 512}, "budget calibrated (this run: proxy), proxy_for_batch_size None"),
        ({"budget": "as-published", "noise_multipliers": {"8": 2.0}}, "published None (this run: 2.0)"),
    ],
)
def test_it_is_refused_by_runs_of_another_recipe(run, file, keys, said):
    with pytest.raises(BenchError, match=re.escape(said)) as error:
        noise.read(file, changed(run, **keys), N)
    assert str(error.value).startswith(f"{file}: this noise was made for ")
    assert f"calibrate digits 8 --out {file}` makes it anew" in str(error.value)


def test_it_is_refused_by_runs_of_another_epsilon_data_set_or_version(run, file, monkeypatch):
    with pytest.raises(BenchError, match=re.escape("epsilon 8 (this run: inf)")):
        noise.read(file, dataclasses.replace(run, epsilon=math.inf), N)
    with pytest.raises(BenchError, match=re.escape(f"train_size {N} (this run: 900)")):
        noise.read(file, run, 900)
    monkeypatch.setattr("bench.plan.spec.RESULTS_VERSION", 99)
    with pytest.raises(BenchError, match=re.escape("(this run: 99)")):
        noise.read(file, run, N)


class Watched(dict):
    """A recipe that remembers which of its keys were asked for."""

    def __init__(self, content: dict):
        super().__init__(content)
        self.asked = set()

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"budget": "proxy", "proxy_for_batch_size": 512},
        {"budget": "as-published", "noise_multipliers": {"8": 2.0}},
    ],
)
def test_all_that_decides_the_noise_is_compared(run, keys):
    """A key that `noise_of` came to read without a place in the budget would let noise of another recipe pass."""
    watched = Watched(run.recipe | keys)
    noise.noise_of(dataclasses.replace(run, recipe=watched), N)
    assert {"batch_size", "steps", "delta", "budget"} <= watched.asked
    assert watched.asked <= {*spec.BUDGET, "noise_multipliers"}
    for key in set(spec.BUDGET) & set(watched):
        assert dataclasses.replace(run, recipe=watched).budget()[key] == watched[key]


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: None,
        lambda found: {"noise_multiplier": found["noise_multiplier"]},  # of an earlier version
        lambda found: found | {"made_for": "this"},
        *(lambda found, value=value: found | {"noise_multiplier": value} for value in ("1", True, -1.0, math.nan, math.inf)),
    ],
)
def test_what_calibrate_does_not_write_is_refused(run, file, damage):
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(BenchError, match=r"n\.json: not what `calibrate` writes .* makes it anew"):
        noise.read(file, run, N)
    file.write_text("{")
    with pytest.raises(BenchError, match="not what `calibrate` writes"):
        noise.read(file, run, N)
    file.unlink()
    with pytest.raises(BenchError, match="No such file or directory"):
        noise.read(file, run, N)


def test_the_noise_of_four_steps_does_not_train_forty(shipped, tmp_path, monkeypatch, capsys):
    """As a user does it: at epsilon 8 that run would have spent 13."""
    monkeypatch.chdir(tmp_path)
    shipped["machine"] |= {"device": "cpu"}
    shipped["recipes"]["digits"] |= {"batch_size": 32, "steps": 4, "evaluate_every": 2}
    run = next(run for run in resolve.studies_of(shipped)["quick"].runs if run.epsilon == 8)
    Path("config.yaml").write_text(yaml.safe_dump(shipped))
    assert main(["calibrate", "digits", "8", "--out", "n.json"]) == 0
    assert main(["train", run.id, "--noise", "n.json", "--out", "a.json"]) == 0
    shipped["recipes"]["digits"]["steps"] = 40
    Path("config.yaml").write_text(yaml.safe_dump(shipped))
    capsys.readouterr()
    assert main(["train", run.id, "--noise", "n.json", "--out", "b.json"]) == 1
    said = capsys.readouterr().err
    assert "n.json: this noise was made for steps 4 (this run: 40): the run would not spend its epsilon" in said
    assert "Traceback" not in said
    assert not Path("b.json").exists()
    # the way out is one
    assert main(["calibrate", "digits", "8", "--out", "n.json"]) == 0
    assert main(["train", run.id, "--noise", "n.json", "--out", "b.json"]) == 0
