"""The crate: what stands in it, that pandas and rliable's shapes come out of it, and what its validator says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench import ROOT
from bench.__main__ import main
from bench.evidence import records
from bench.exchange import crate
from tests.exchange.factory import finished
from tests.factory import record_of

rocrate = pytest.importorskip("rocrate")
# Of RO-Crate 1.1, where the context that comes with rocrate, of 1.3, has other addresses.
TERMS_1_1 = {
    **dict.fromkeys(("ComputationalWorkflow", "FormalParameter"), "https://bioschemas.org/{}"),
    **dict.fromkeys(("input", "output"), "https://bioschemas.org/ComputationalWorkflow#{}"),
}


@pytest.fixture
def folder(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished(quick.values())
    return tmp_path


def export(*options: str) -> Path:
    assert main(["--config", str(ROOT / "config.yaml"), "export", "--study", "quick", *options]) == 0
    return Path("results/export")


def test_a_crate_holds_what_it_describes(folder, quick):
    made = export("--author", "Ada Example")
    metadata = json.loads((made / crate.METADATA).read_text())
    entities = {entity["@id"]: entity for entity in metadata["@graph"]}
    root = entities["./"]
    described = {part["@id"] for part in root["hasPart"]}
    assert described == {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()} - {crate.METADATA}
    assert root["mainEntity"]["@id"] == "Snakefile"
    assert {profile["@id"] for profile in root["conformsTo"]} == set(crate.PROFILES)
    action = entities[root["mentions"]["@id"]]
    assert action["@type"] == "CreateAction"
    assert entities[action["agent"]["@id"]]["name"] == "Ada Example"
    assert {part["@id"] for part in action["result"]} == set(crate.RESULTS)
    assert (made / "Snakefile").read_bytes() == (ROOT / "Snakefile").read_bytes()
    assert (made / "config.yaml").read_bytes() == (ROOT / "config.yaml").read_bytes()
    assert len(records.read_lines(made / "records.jsonl")) == len(quick)


def test_the_same_records_make_the_same_crate(folder):
    def content(made: Path) -> dict:
        return {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}

    first = content(export())
    assert content(export()) == first  # in the place of the first one
    assert not [path for path in Path("results").iterdir() if path.name.startswith(".")]


def test_the_documented_snippet_gives_the_arrays_that_rliable_takes(folder, quick):
    """Scores (runs, tasks) an algorithm, without gaps, in the order of seeds and tasks."""
    made = export()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)
    (snippet,) = (block for block in blocks if "scores" in block)
    names: dict = {}
    exec(snippet.replace("results/export", str(made)), names)
    scores = names["scores"]
    runs = [run for run in quick.values()]
    assert set(scores) == {run.variant for run in runs}
    tasks = sorted({(run.recipe_name, run.arch, run.identity["epsilon"]) for run in runs})
    for variant, values in scores.items():
        expected = [
            [
                record_of(run, 70.0 + run.seed)["result"]["accuracy"] / 100
                for run in runs
                if key(run) == (variant, seed, *task)
            ]
            for seed in sorted({run.seed for run in runs})
            for task in tasks
        ]
        assert values.shape == (len({run.seed for run in runs}), len(tasks))
        assert np.isfinite(values).all()
        np.testing.assert_allclose(values.flatten(), np.array(expected).flatten(), rtol=1e-9)
        assert stats.trim_mean(values, 0.25, axis=None) == pytest.approx(np.median(values), abs=0.02)  # IQM


def key(run) -> tuple:
    return run.variant, run.seed, run.recipe_name, run.arch, run.identity["epsilon"]


def test_without_finished_runs_there_is_no_crate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--config", str(ROOT / "config.yaml"), "export", "--study", "quick"]) == 1
    assert "no finished runs of these studies" in capsys.readouterr().err
    assert not Path("results/export").exists()


def test_what_is_no_crate_is_not_replaced(folder, capsys):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("dear to me")
    assert main(["--config", str(ROOT / "config.yaml"), "export", "--out", "mine"]) == 1
    assert "mine: exists and is no crate" in capsys.readouterr().err
    assert Path("mine/notes.txt").read_text() == "dear to me"


def test_without_its_packages_there_is_a_sentence(folder, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main(["--config", str(ROOT / "config.yaml"), "export", "--study", "quick", "--validate"]) == 1
    assert f"`pip install {crate.VALIDATOR}`" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    assert main(["--config", str(ROOT / "config.yaml"), "export", "--study", "quick"]) == 1
    assert f"`pip install {crate.PACKAGE}`" in capsys.readouterr().err
    assert (Path("results/export") / crate.METADATA).exists()  # of before


@pytest.mark.parametrize("code", [0, 1])
def test_the_validator_decides_the_exit_code(folder, monkeypatch, code):
    program = folder / "bin/rocrate-validator"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > asked\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assert main(["--config", str(ROOT / "config.yaml"), "export", "--study", "quick", "--validate"]) == code
    asked = Path("asked").read_text().split()
    assert asked[asked.index("--profile-identifier") + 1] == "workflow-run-crate"
    assert asked[-1] == "results/export"


@pytest.mark.skipif(shutil.which("rocrate-validator") is None, reason=f"needs {crate.VALIDATOR} on the path")
def test_the_crate_is_valid(folder):
    """Without a network: the JSON-LD context is that of rocrate, with the terms that 1.1 had elsewhere."""
    context = json.loads((Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_text())
    context["@context"] |= {term: address.format(term) for term, address in TERMS_1_1.items()}
    Path("context.jsonld").write_text(json.dumps(context))
    program = shutil.which("rocrate-validator")
    python = Path(program).resolve().parent / "python"
    subprocess.run([python, "-c", CACHED, "context.jsonld", "cache"], check=True)
    options = ["--offline", "--cache-path", "cache", "--profile-identifier", "workflow-run-crate", "--output-format", "json"]
    command = [program, "--no-interactive", "validate", *options, str(export())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["issues"] == []
    assert done.returncode == 0


CACHED = """
import io, sys
import requests, requests_cache, urllib3
url, body = "https://w3id.org/ro/crate/1.1/context", open(sys.argv[1], "rb").read()
kind = {"Content-Type": "application/ld+json"}
response = requests.Response()
response.status_code, response.url, response._content = 200, url, body
response.request = requests.Request("GET", url).prepare()
response.headers.update(kind)
response.raw = urllib3.HTTPResponse(io.BytesIO(body), kind, 200, preload_content=False, request_url=url)
requests_cache.CachedSession(sys.argv[2], backend="sqlite", expire_after=-1).cache.save_response(response)
"""
