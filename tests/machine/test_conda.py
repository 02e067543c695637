"""What conda is asked for: files that it can read, the versions of requirements.txt, and a word where no conda will do.

That conda-forge has all of it, and solves it, no test here says: it needs the channel itself.
"""

import ast
import os
import sys
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from bench import ROOT, BenchError
from bench.machine import conda

ENVIRONMENTS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "workflow/envs").glob("*.yaml"))}
PINS = dict(line.lower().split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda-forge's names of what PyPI calls otherwise
RENAMED = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}
IMPORTED_AS = {"pyyaml": "yaml", "pillow": "PIL", "scikit-learn": "sklearn", "pytest-benchmark": "pytest_benchmark"}
COME_ALONG = {"triton"}  # with torch, where it is for CUDA; the code does without it elsewhere
# The rooms whose code runs in an environment; their imports inside functions are of other verbs.
ROOMS = {
    "report": ("plan", "evidence", "report", "cli", "files.py", "terminal.py", "commands", "machine"),
    "torch": (
        "plan",
        "data",
        "dp",
        "models",
        "training",
        "audit",
        "speed",
        "layers.py",
        "source.py",
        "commands",
        "warm.py",
    ),
}


def from_conda(name: str) -> list[str]:
    return [item for item in ENVIRONMENTS[name]["dependencies"] if isinstance(item, str)]


def from_pip(name: str) -> list[str]:
    return [line for item in ENVIRONMENTS[name]["dependencies"] if isinstance(item, dict) for line in item["pip"]]


def test_two_environments_without_foreign_channels():
    assert list(ENVIRONMENTS) == ["report", "torch"]
    assert all(content["channels"] == ["conda-forge", "nodefaults"] for content in ENVIRONMENTS.values())


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_versions_are_those_of_the_requirements(name):
    for requirement in from_conda(name):
        package, _, version = requirement.partition("=")
        if package == "python":
            assert SpecifierSet(PROJECT["requires-python"]).contains(version)
        elif package != "pip":
            assert SpecifierSet(f"=={version}.*").contains(PINS[RENAMED.get(package, package)]), requirement
    for requirement in from_pip(name):
        package, version = requirement.split("==")
        assert PINS[package] == version, requirement


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_all_that_the_code_imports_is_asked_for(name):
    asked = [line.partition("=")[0] for line in [*from_conda(name), *from_pip(name)]]
    asked = {IMPORTED_AS.get(package, RENAMED.get(package, package).replace("-", "_")) for package in asked}
    imported = set()
    for room in ROOMS[name]:
        path = ROOT / "bench" / room
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.split(".")[0])
    assert {"bench", "numpy"} <= imported
    assert imported - sys.stdlib_module_names - {"bench", *COME_ALONG} <= asked


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_conda_reads_every_requirement(name):
    rattler = pytest.importorskip(
        "rattler", reason="conda's own grammar: pip install --no-build-isolation -e '.[conda-test]'"
    )
    for requirement in from_conda(name):
        package, version = requirement.partition("=")[0], rattler.MatchSpec(requirement, strict=True).version
        if package not in ("python", "pip"):
            pinned = rattler.Version(PINS[RENAMED.get(package, package)])
            assert rattler.VersionSpec(str(version)).matches(pinned), requirement
    with pytest.raises(Exception, match="build string"):
        rattler.MatchSpec("numpy=2.4=any=build", strict=True)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs, the only ones on PATH, that print a text."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(name: str, says: str, code: int = 0) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
        (tmp_path / name).chmod(0o755)

    return make


@pytest.mark.parametrize("version", ["24.7.1", "24.9.2", "26.1.0"])
def test_a_conda_that_snakemake_takes(programs, version):
    programs("conda", f"conda {version}")
    conda.check()


@pytest.mark.parametrize("others", [(), ("mamba",), ("micromamba", "pixi")])
def test_no_conda(programs, others):
    for name in others:
        programs(name, "2.3.0")
    with pytest.raises(BenchError, match=r"no program `conda` is on PATH.* install conda 24\.7\.1 or newer") as refused:
        conda.check()
    assert all(f"`{name}`" in str(refused.value) for name in others)
    assert ("Snakemake calls no other" in str(refused.value)) == bool(others)
    assert "leave --use-conda out" in str(refused.value)


@pytest.mark.parametrize("version", ["4.12.0", "23.11.0", "24.7.0"])
def test_an_old_conda(programs, tmp_path, version):
    programs("conda", f"conda {version}")
    with pytest.raises(BenchError, match=rf"{tmp_path}/conda is conda {version}, .*24\.7\.1.*conda update -n base conda"):
        conda.check()


def test_a_conda_that_is_none(programs, tmp_path):
    programs("conda", "ModuleNotFoundError: No module named conda", 1)
    with pytest.raises(BenchError, match=r"says 'ModuleNotFoundError.*reinstall conda"):
        conda.check()
    (tmp_path / "conda").write_text(f"#!{os.devnull}/python\n")
    with pytest.raises(BenchError, match="reinstall conda"):
        conda.check()


def test_snakemake_takes_no_older_one_than_is_told():
    deployment = pytest.importorskip("snakemake.deployment.conda")
    assert ".".join(map(str, conda.OLDEST)) == deployment.MIN_CONDA_VER
