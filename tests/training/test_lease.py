"""GPUs leased by lock file: fake ids, real processes."""

import os
import re
import signal
import subprocess
import sys
import tempfile

import pytest

from bench import ROOT, BenchError, machine
from bench.__main__ import main
from bench.training import lease

HOLDER = """
import signal, sys
from bench.training import lease
signal.alarm(60)  # no test waits for ever
with lease.gpu(int(sys.argv[1])) as name:
    print(name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Starts processes that lease a GPU of 0 and 1, and hold it until they are closed or killed."""
    started = []

    def start(runs_per_gpu: int = 1, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(runs_per_gpu)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "SLURM_JOB_ID": "", "CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path), **environment},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:
            pass  # closes the pipes and waits


def leased(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def test_every_run_has_a_gpu_of_its_own_and_the_next_one_waits(holder):
    first, second = holder(), holder()
    held, freed = leased(first), leased(second)
    assert {held, freed} == {"0", "1"}
    third = holder()
    assert "waiting for a GPU" in third.stderr.readline()
    second.stdin.close()
    assert leased(third) == freed


def test_a_killed_run_frees_its_gpu(holder):
    first, second = holder(), holder()
    leased(first)
    freed = leased(second)
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert leased(holder()) == freed


def test_runs_share_a_gpu_only_when_all_have_one(holder):
    names = []
    for _ in range(4):
        names.append(leased(holder(runs_per_gpu=2)))
    assert names == ["0", "1", "0", "1"]
    assert "waiting for a GPU" in holder(runs_per_gpu=2).stderr.readline()


def test_slurm_jobs_do_not_wait_for_each_other(holder):
    one_gpu = [leased(holder(SLURM_JOB_ID=job, CUDA_VISIBLE_DEVICES="0")) for job in "7788"]
    assert one_gpu == ["None"] * 4  # Slurm has set the variable, and it stays
    several = [leased(holder(SLURM_JOB_ID=job)) for job in "7788"]
    assert several == ["0", "1", "0", "1"]


def test_no_place_for_lock_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(BenchError, match=r"missing.* set TMPDIR"), lease.gpu(1):
        pass


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("2,0", ["2", "0"]), ("", []), ("-1", []), ("1,-1,0", ["1"]), ("GPU-8f, MIG-1/2", ["GPU-8f", "MIG-1/2"])],
)
def test_visible_devices_are_the_gpus(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == expected


def test_train_shows_torch_the_leased_gpu_only(tmp_path, monkeypatch, shipped):
    from bench.training import loop as training

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def stop(*_, **__):
        raise RuntimeError(f"GPU {os.environ['CUDA_VISIBLE_DEVICES']}")

    monkeypatch.setattr(training, "train", stop)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest's own handlers stay
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(re.sub("device: auto", "device: cuda", (ROOT / "config.yaml").read_text()))
    with lease.gpu(1) as held, pytest.raises(RuntimeError, match=r"^GPU 5$"):
        assert held == "3"
        main(["train", "digits/resnet9-w8/baseline/epsinf/seed0"])
