"""Ways in which finished runs used to get lost: after any of them the same command goes on, and nothing trains twice.

Seen on a Slurm cluster; replayed here without one.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bench import ROOT
from tests.test_pipeline import snakemake, tiny, write

pytestmark = pytest.mark.slow

RUN = "digits/resnet9-w8/scalenorm/epsinf/seed0"

# A `bench` in the working directory, before the real one: the first run ends well, and its job is said to have failed.
FAILED_AT_THE_END = """
import runpy, sys
from pathlib import Path
first = "train" in sys.argv and "scalenorm/epsinf" in " ".join(sys.argv) and not Path("failed").exists()
sys.path.pop(0)
del sys.modules["bench"]
try:
    runpy.run_module("bench", run_name="__main__", alter_sys=True)
except SystemExit as end:
    if first:
        Path("failed").write_text(str(end.code))
        sys.exit(1)
    raise
"""


@pytest.fixture
def folder(tmp_path, shipped):
    """Four runs of a few seconds."""
    config = tiny(shipped)
    config["recipes"]["digits"] |= {"steps": 120, "evaluate_every": 40}
    write(config, tmp_path)
    return tmp_path


def record(folder) -> dict:
    return json.loads((folder / f"results/runs/{RUN}.json").read_text())


@pytest.mark.long
def test_a_run_that_ended_in_the_grace_of_a_time_limit(folder):
    """Exit code 0 and a record, and yet the job counts as failed: Snakemake deletes the record."""
    (folder / "bench").mkdir()
    (folder / "bench/__init__.py").touch()
    (folder / "bench/__main__.py").write_text(FAILED_AT_THE_END)
    assert snakemake(folder).returncode == 1
    assert (folder / "failed").read_text() == "0"
    assert not (folder / f"results/runs/{RUN}.json").exists()
    kept = json.loads((folder / f"results/kept/{RUN}.json").read_text())
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert record(folder) == kept
    assert not list((folder / "results/kept").rglob("*.json"))  # the tables were made of it: it stands


@pytest.mark.long
def test_a_run_that_an_orphan_of_a_killed_driver_still_trains(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    orphan = subprocess.Popen([sys.executable, "-m", "bench", "train", RUN], cwd=folder, env=environment)
    live = folder / f"results/live/{RUN}.json"
    while not live.exists():
        assert orphan.poll() is None
        time.sleep(0.01)
    orphan.send_signal(signal.SIGSTOP)  # until the new driver's job has met its lock
    driver = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    log = folder / f"results/logs/runs/{RUN}.log"
    while not (log.exists() and "another process trains this run; waiting for it" in log.read_text()):
        assert driver.poll() is None
        time.sleep(0.05)
    orphan.send_signal(signal.SIGCONT)
    assert driver.wait() == 0
    assert orphan.wait() == 0
    assert "finished before" in log.read_text()
    assert record(folder)["provenance"]["command"] == f"python -m bench train {RUN}"


@pytest.mark.long
def test_a_driver_that_is_stopped_alone(folder):
    """Its runs end well and their records stand, as incomplete output in the eyes of the next driver."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--cores", "2"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((folder / "results").rglob("live/**/seed0.json")):
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 60
    while list((folder / "results/live").rglob("seed0.json")):  # the runs go on without it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    finished = {path: path.read_text() for path in (folder / "results/runs").rglob("seed0.json")}
    assert 0 < len(finished) < 4
    assert snakemake(folder, "--unlock").returncode == 0
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.read_text() for path in finished} == finished
    assert len(list((folder / "results/runs").rglob("seed0.json"))) == 4


# `bench` on a file system whose locks say nothing, or to one node only: NFS without its daemon, Lustre with `localflock`.
WITHOUT_LOCKS = """
import errno, fcntl, sys
def refuse(file, how):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
from bench.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_two_that_train_a_run_without_seeing_each_other(folder):
    """Time is lost, and nothing else: each writes the same numbers by rename."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = {"args": [sys.executable, "-c", WITHOUT_LOCKS, "train", RUN], "cwd": folder, "env": environment}
    first = subprocess.Popen(**start)
    live = folder / f"results/live/{RUN}.json"
    while not (live.exists() and json.loads(live.read_text())["step"]):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    assert subprocess.run(**start, check=False).returncode == 0
    numbers = record(folder)
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    again = record(folder)
    assert again["provenance"] != numbers["provenance"]  # the other's, and yet
    assert {**again, "cost": {}, "machine": {}, "provenance": {}} == {**numbers, "cost": {}, "machine": {}, "provenance": {}}
    left = [path for name in ("checkpoints", "live") for path in (folder / "results" / name).rglob("*") if path.is_file()]
    assert not left
