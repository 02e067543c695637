"""A checkout of this repository, uncommitted changes with it, for tests that change one or run commands in it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import ROOT

OLD = 1_000_000_000  # seconds since 1970: older than any .venv/installed, so that `make` installs nothing


def checkout(folder: Path) -> Path:
    """Copies into `folder` all that git tracks or would, the committed records aside."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("results/reference/records"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def with_commands(folder: Path) -> dict[str, str]:
    """Makes `make` and `.venv/bin/bench` of `checkout(folder)` those of this environment; what the processes need to know."""
    if not (ROOT / ".venv/installed").exists():
        pytest.skip("the environment is none of `make`")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in ("requirements.txt", "pyproject.toml"):
        os.utime(folder / name, (OLD, OLD))
    # in front of the place that the environment's own installation names
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
