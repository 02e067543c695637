"""README's section of that name: each message is met for real, and each command given as it is written there."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from bench import ROOT
from tests.checkout import checkout, with_commands
from tests.kill_points import fill, small_disk
from tests.test_pipeline import tiny, write

pytestmark = [pytest.mark.slow, pytest.mark.long]

SECTION = re.search(r"^## When something goes wrong\n(.*?)^(?:## |\[CONT)", (ROOT / "README.md").read_text(), re.M | re.S)[1]
# {message: commands} of the rows of its table
ROWS = {
    message: re.findall(r"`(.+?)`", then)
    for message, _, then in re.findall(r"^\| (?!you read|---)(.+?) \| (.+?) \| (.+?) \|$", SECTION, re.M)
}
RUN = "digits/resnet9-w8/baseline/epsinf/seed0"


class Place:
    """A checkout of a small study, and what is said to whoever works in it."""

    def __init__(self, folder: Path, config: dict, **studies):
        self.folder = checkout(folder)
        self.environment = with_commands(folder) | {"HOME": str(folder.parent / "home")}
        (folder.parent / "home").mkdir(exist_ok=True)
        config["studies"]["quick"] |= studies
        write(config, folder)

    before: tuple | list = ()  # of every command line

    def says(self, command: str, code: int | None = 0) -> str:
        """Both outputs of a command, which ends with the exit code (any but 0 for None)."""
        done = subprocess.run(
            [*self.before, "bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == code) if code is not None else done.returncode, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    def start(self, command: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [*self.before, "bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        wait(self.live, process)
        return process

    def live(self) -> list[Path]:
        return list(self.folder.glob("results/live/**/seed*.json"))

    def records(self) -> int:
        return len(list(self.folder.glob("results/runs/**/seed*.json")))


def wait(until, process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 300
    while not until():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.fixture
def config(shipped):
    config = tiny(shipped)
    config["recipes"]["digits"] |= {"steps": 60, "evaluate_every": 20}
    return config


def test_every_row_is_tried_here():
    assert len(ROWS) == 8
    text = Path(__file__).read_text()
    assert all(f'"{message}"' in text for message in ROWS)


def test_two_pipelines_and_a_killed_one(tmp_path, config):
    place = Place(tmp_path / "checkout", config)
    first = place.start("make")
    message = "another run, or what a killed one left, is at work in this folder"
    assert message in place.says("make", None)
    (command,) = ROWS[message]
    assert re.search(r"quick 0 [12] 0 [23] 4", place.says(command))
    drivers = [
        item for item in psutil.Process(first.pid).children(recursive=True) if {"run", "snakemake"} & {*item.cmdline()}
    ]
    assert len(drivers) >= 2
    for process in [psutil.Process(first.pid), *drivers]:
        process.kill()
    first.wait()
    wait(lambda: not place.live())  # its runs end well
    assert 0 < place.records() < 4
    message, said = "another Snakemake is at work in this folder, or one was killed", []
    wait(lambda: said.append(place.says("make", None)) or message in said[-1])
    unlock, make = ROWS[message]
    place.says(unlock)
    message = "IncompleteFilesException"
    assert message in place.says(".venv/bin/snakemake --cores all --workflow-profile none", None)
    (command,) = ROWS[message]
    place.says(f"{command} --workflow-profile none")
    assert place.records() == 4
    assert "Nothing to be done" in place.says(make)


def test_a_checkout_of_another_user(tmp_path, config):
    """What may not be written; git is told that it is not ours. Root obeys permissions where it has no capabilities."""
    place = Place(tmp_path / "checkout", config, variants=["baseline"], epsilons=[float("inf")])
    git = "git -c user.name=a -c user.email=a@b.c"
    place.says(f"git init -q && {git} add -A && {git} commit -qm all && chmod -R a-w results report")
    place.environment |= {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    if os.getuid() == 0:
        place.before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        if subprocess.run([*place.before, "true"], check=False, capture_output=True).returncode:
            pytest.skip("root cannot give up its capabilities here")
    message = "Permission denied; let yourself read and write it, or work in a folder of your own"
    assert message in place.says("make", None)
    (command,) = ROWS[message]
    place.says(command)
    assert (tmp_path / "home/mine/report/report.html").exists()
    message = "of another user, so that git says no commit"
    assert message in place.says(".venv/bin/bench provenance", 1)
    (command,) = ROWS[message]
    place.says(command)
    assert re.search(r'"commit": "[0-9a-f]{40}"', place.says(".venv/bin/bench provenance"))


def test_a_full_disk(tmp_path, config):
    place = Place(tmp_path / "checkout", config, variants=["baseline"], epsilons=[float("inf")])
    (place.folder / "results").rename(tmp_path / "committed")
    (place.folder / "results").mkdir()
    message = "No space left on device; free some space and give the same command again"
    with small_disk(place.folder / "results") as mounted:
        if not mounted:
            pytest.skip("no disk can be mounted here")
        shutil.copytree(tmp_path / "committed", place.folder / "results", dirs_exist_ok=True)
        filler = fill(place.folder / "results")
        assert message in place.says("make", None)
        assert message in place.says(f".venv/bin/bench train {RUN}", 1)
        assert not place.records()
        filler.unlink()
        for command in ROWS[message]:
            place.says(command)
        assert place.records() == 1


def test_a_run_that_the_system_kills(tmp_path, config):
    place = Place(tmp_path / "checkout", config, variants=["baseline"], epsilons=[float("inf")])
    process = place.start("make CORES=2")
    (live,) = place.live()
    psutil.Process(int(re.search(r'"pid": (\d+)', live.read_text())[1])).kill()
    said, _ = process.communicate(timeout=300)
    message = "ended by signal 9 (SIGKILL)"
    assert process.returncode
    assert message in " ".join(said.split())
    (command,) = ROWS[message]
    place.says(command)
    assert place.records() == 1


def test_a_gpu_that_torch_does_not_see(tmp_path, config):
    """Of a driver that lists one: a stand-in for nvidia-smi."""
    config["machine"]["device"] = "auto"
    place = Place(tmp_path / "checkout", config, variants=["baseline"], epsilons=[float("inf")])
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Toy (UUID: GPU-1)'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    place.environment |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "0"}
    message = "is a build without CUDA"
    if torch.version.cuda is not None:
        pytest.skip("torch is a build with CUDA")
    assert message in place.says(f".venv/bin/bench train {RUN}", 1)
    for command in ROWS[message]:
        place.says(command)
    place.says(f".venv/bin/bench train {RUN}")
    assert place.records() == 1
