"""What `make` does about Python and torch before it installs anything."""

import os
import subprocess
import sys

import pytest

from bench import ROOT
from tools.check_python import problem


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
@pytest.mark.parametrize("machine", [("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64", "14.6")])
def test_where_wheels_exist(version, machine):
    assert problem(version, *machine) is None


@pytest.mark.parametrize(
    ("here", "says"),
    [
        (((3, 10), "Linux", "x86_64"), "Python 3.10: too old"),
        (((3, 14), "Linux", "x86_64"), "Python 3.14: immutables 0.21, which Snakemake needs, has no wheel"),
        (((3, 12), "Darwin", "x86_64", "15.1"), "no wheel for Macs with Intel processors"),
        (((3, 12), "Darwin", "arm64", "13.7"), "macOS 13.7: torch 2.13 has wheels for macOS 14"),
    ],
)
def test_where_they_do_not_it_is_said(here, says):
    told = problem(*here)
    assert says in told
    assert "take " in told


def planned(*settings: str) -> str:
    """What `make` would run to set up."""
    return make("--dry-run", *settings).stdout


def make(*arguments: str) -> subprocess.CompletedProcess:
    """`make setup` as if nothing were set up, and without what a `make` around the tests was given."""
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "TORCH", "UV")}
    command = ["make", "--always-make", "setup", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=clean)


def test_torch_is_installed_first_and_of_the_build_that_is_asked_for():
    lines = [line for line in planned().splitlines() if " install " in line]
    assert [line.split()[-1] for line in lines] == ['requirements.txt)"', "requirements.txt", "."]
    assert "index-url" not in planned()
    first = next(line for line in planned("TORCH=cpu").splitlines() if "torch==" in line)
    assert first.endswith('requirements.txt)"+cpu --extra-index-url https://download.pytorch.org/whl/cpu')
    requirement = first[first.index('"$(') :].split(" --")[0]
    shown = subprocess.run(["sh", "-c", f"echo {requirement}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "torch==2.13.0+cpu"


def test_uv_installs_the_same_into_the_same_place():
    with_pip, with_uv = planned(), planned("UV=uv")
    pip, uv = ".venv/bin/pip install --quiet --disable-pip-version-check", "uv pip install --quiet --python .venv/bin/python"
    assert with_pip.count(pip) == 3
    assert with_uv == with_pip.replace(pip, uv)


def test_an_unfit_python_ends_make_with_the_sentence(tmp_path):
    fake = tmp_path / "python3"
    new = "import runpy, sys; sys.version_info = (3, 14, 0); runpy.run_path(sys.argv[1], run_name='__main__')"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{new}" "$@"\n')
    fake.chmod(0o755)
    done = make(f"PYTHON={fake}", f"BIN={tmp_path}")  # were it to go on, nothing of ours would be touched
    assert done.returncode == 2
    assert "Python 3.14: immutables 0.21" in done.stderr
    assert "-m venv" not in done.stdout
