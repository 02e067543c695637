"""The `conda` that Snakemake calls under --use-conda: whether it is there, and new enough. No other program does."""

import re
import shutil
import subprocess

from bench import BenchError

OLDEST = (24, 7, 1)  # Snakemake 9 takes no older one (MIN_CONDA_VER in snakemake/deployment/conda.py)
OTHERS = ("mamba", "micromamba", "pixi")  # which read the same files, and which Snakemake does not call
WITHOUT = "or leave --use-conda out: the runs then use the environment that Snakemake is in"


def check() -> None:
    """Nothing where `conda` on PATH will do; BenchError with what to install where it will not."""
    oldest = ".".join(map(str, OLDEST))
    path = shutil.which("conda")
    if path is None:
        others = " and ".join(f"`{name}`" for name in OTHERS if shutil.which(name))
        instead = f" ({others} does not do: Snakemake calls no other)" if others else ""
        raise BenchError(
            f"--use-conda: no program `conda` is on PATH{instead}; install conda {oldest} or newer (Miniforge brings it) and "
            f"open a new shell, {WITHOUT}"
        )
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip()
    except OSError as error:  # a script without its interpreter, say, of an installation that was moved
        said = error.strerror
    found = re.search(r"conda (\d+)\.(\d+)\.(\d+)", said)
    if not found:
        last = said.splitlines()[-1] if said else "nothing"
        raise BenchError(f"--use-conda: {path} --version says {last!r}, no version; repair or reinstall conda, {WITHOUT}")
    if tuple(map(int, found.groups())) < OLDEST:
        raise BenchError(
            f"--use-conda: {path} is {found[0]}, and Snakemake needs {oldest} or newer; `conda update -n base conda` brings "
            f"it, {WITHOUT}"
        )
