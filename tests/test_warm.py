"""Commands that share one start: they give and do what they would by themselves, however one of them ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from bench import ROOT, warm
from bench.evidence import records
from bench.plan import resolve
from tests.training.test_loop import numbers

pytestmark = pytest.mark.slow


@pytest.fixture
def user(tmp_path, shipped):
    """A folder with short and long runs, a driver that lives as long as the test, and a way to start commands for it."""
    shipped["recipes"]["digits"] |= {"batch_size": 32, "steps": 4, "evaluate_every": 2}
    shipped["recipes"]["pocket"] = shipped["recipes"]["digits"] | {"batch_size": 64, "steps": 20000, "evaluate_every": 10000}
    shipped["machine"] |= {"device": "cpu"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped))
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # short enough for a socket's path
    studies = resolve.studies_of(shipped)
    driver = subprocess.Popen(["sleep", "600"])
    environment = os.environ | {"PYTHONPATH": str(ROOT), warm.VARIABLE: str(driver.pid), "TMPDIR": str(temporary)}

    class User:
        folder, short, long = tmp_path, studies["quick"].runs, studies["pocket"].runs[0]

        def start(self, *arguments: str, **changes: str) -> subprocess.Popen:
            return subprocess.Popen(
                [sys.executable, "-m", "bench", *arguments], cwd=tmp_path, env=environment | changes,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip

        def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
            process = self.start(*arguments, **changes)
            output, errors = process.communicate()
            return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

        def sockets(self) -> list[Path]:
            return list(temporary.rglob("*.sock"))

        def child(self) -> int:
            """Process id of the long run."""
            return json.loads((tmp_path / f"results/live/{self.long.id}.json").read_text())["pid"]

        def trains(self) -> bool:
            said = tmp_path / f"results/live/{self.long.id}.json"
            return said.exists() and '"step": 0' not in said.read_text()

        def checkpoints(self) -> list[Path]:
            return list((tmp_path / "results/checkpoints").glob("*.pt"))

    yield User()
    driver.kill()
    driver.wait()
    wait_until(lambda: not list(temporary.rglob("*.sock")))
    shutil.rmtree(temporary)


def wait_until(holds, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runs_of_one_server_leave_the_records_that_they_would_leave_alone(user):
    together, alone = user.short[0], user.short[1]
    for run in (together, alone):
        done = user.run("train", run.id)
        assert done.returncode == 0, done.stderr
        assert f"{run.id}: " in done.stdout
    assert len(user.sockets()) == 1
    shared = [numbers(records.read(user.folder / run.path)) for run in (together, alone)]
    shutil.rmtree(user.folder / "results")
    for run in (together, alone):
        assert user.run("train", run.id, **{warm.VARIABLE: ""}).returncode == 0
    assert [numbers(records.read(user.folder / run.path)) for run in (together, alone)] == shared


def test_refusals_and_usage_come_through(user):
    for _ in range(2):
        done = user.run("train", "digits/resnet9-w8/baselin/eps8/seed0")
        assert done.returncode == 1
        assert "did you mean" in done.stderr
    assert user.run("train", "--no-such-option").returncode == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_reach_the_run(user, number, code):
    process = user.start("train", user.long.id)
    wait_until(user.trains)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "the same command goes on from there" in errors
    assert len(user.checkpoints()) == 1


def test_a_killed_command_takes_its_run_along_and_the_server_serves_on(user):
    process = user.start("train", user.long.id)
    wait_until(user.trains)
    process.kill()
    process.communicate()
    wait_until(user.checkpoints)
    assert user.run("train", user.short[0].id).returncode == 0


def test_a_killed_server_ends_its_commands_with_a_sentence_and_the_next_one_starts_another(user):
    process = user.start("train", user.long.id)
    wait_until(user.trains)
    child = user.child()
    server = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(child)], capture_output=True, check=True).stdout)
    os.kill(server, signal.SIGKILL)
    assert process.wait() == 1
    assert user.run("train", user.short[0].id).returncode == 0
    os.kill(child, signal.SIGTERM)  # it went on by itself, and has the command's outputs until it ends
    wait_until(user.checkpoints)
    assert "the process that trained this run was stopped" in process.communicate()[1]


def test_without_a_place_for_the_socket_commands_do_their_work_themselves(user):
    done = user.run("train", user.short[0].id, TMPDIR=str(user.folder / "config.yaml"))
    assert done.returncode == 0, done.stderr
    assert not user.sockets()


def test_a_server_of_other_sources_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "ROOT", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/a.py").write_text("x = 1\n")
    before = warm._address("1")
    assert warm._address("1") == before
    (tmp_path / "bench/a.py").write_text("x = 2\n")
    assert warm._address("1") != before
