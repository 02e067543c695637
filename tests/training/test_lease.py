"""GPUs leased by lock file: fake ids, real processes."""

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import ROOT, BenchError
from bench.__main__ import main
from bench.training import lease

HOLDER = """
import os, signal, sys
from bench.training import lease
signal.alarm(60)  # no test waits for ever
if user := os.environ.get("AS_USER"):
    os.setuid(int(user))
with lease.gpu(int(sys.argv[1])) as name:
    print(name, flush=True)
    sys.stdin.read()
"""
NO_JOB = dict.fromkeys((name for names in lease.JOBS for name in names), "")


@pytest.fixture
def holder(tmp_path):
    """Starts processes that lease a GPU of 0 and 1, and hold it until they are closed or killed."""
    started = []

    def start(runs_per_gpu: int = 1, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(runs_per_gpu)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **NO_JOB, "CUDA_VISIBLE_DEVICES": "0,1", "TMPDIR": str(tmp_path), **environment},
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


def test_the_next_run_goes_to_the_gpu_with_the_fewest(holder):
    """However the runs before it have ended: no GPU is idle while another has two."""
    processes, names = [], []
    for _ in range(4):
        processes.append(holder(runs_per_gpu=2))
        names.append(leased(processes[-1]))
    assert names == ["0", "1", "0", "1"]
    for process in (processes[0], processes[1], processes[3]):  # what is left has the second slot of GPU 0
        process.stdin.close()
        process.wait()
    assert leased(holder(runs_per_gpu=2)) == "1"


SMI = "#!/bin/sh\nprintf 'GPU 0: Toy (UUID: GPU-aaaa-1)\\nGPU 1: Toy (UUID: GPU-bbbb-2)\\n'\n"


def test_a_gpu_has_one_lock_whatever_it_is_called(holder, tmp_path):
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    first = holder(CUDA_VISIBLE_DEVICES="1", PATH=path)
    assert leased(first) == "GPU-bbbb-2"  # by its UUID: CUDA may number GPUs in another order than nvidia-smi
    for name in ("GPU-bbbb-2", "GPU-b", "1"):
        assert "waiting for a GPU" in holder(CUDA_VISIBLE_DEVICES=name, PATH=path).stderr.readline()
    assert leased(holder(CUDA_VISIBLE_DEVICES="GPU-b,0", PATH=path)) == "GPU-aaaa-1"


ARRAYS = [
    ("SLURM_JOB_ID", {}),
    ("LSB_JOBID", {"LSB_JOBINDEX": "0"}),
    ("PBS_JOBID", {}),
    ("JOB_ID", {"SGE_TASK_ID": "undefined"}),
    ("FLUX_JOB_ID", {}),
]


@pytest.mark.parametrize(("name", "more"), ARRAYS)
def test_jobs_of_a_scheduler_do_not_wait_for_each_other(holder, name, more):
    one_gpu = [leased(holder(CUDA_VISIBLE_DEVICES="0", **{name: "7"}, **more)) for _ in range(2)]
    assert one_gpu == ["None"] * 2  # the scheduler has set the variable, and it stays
    several = [leased(holder(**{name: job}, **more)) for job in ("77.server", "78[1]")]
    assert several == ["0", "0"]


@pytest.mark.parametrize(("job", "place"), [("LSB_JOBID", "LSB_JOBINDEX"), ("JOB_ID", "SGE_TASK_ID")])
def test_jobs_of_an_array_with_one_id_do_not_wait_for_each_other(holder, job, place):
    assert [leased(holder(**{job: "7", place: index})) for index in ("1", "2", "1")] == ["0", "0", "1"]


def test_a_job_id_of_something_else_is_no_job_of_sge(holder):
    assert [leased(holder(JOB_ID=job)) for job in ("1", "2")] == ["0", "1"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")
def test_two_users_share_the_locks(holder):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)
        first, second = (holder(AS_USER=user, TMPDIR=folder) for user in ("65533", "65534"))
        assert {leased(first), leased(second)} == {"0", "1"}
        assert "waiting for a GPU" in holder(AS_USER="65534", TMPDIR=folder).stderr.readline()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(folder).rglob("*")}
        assert modes.pop("scalenorm-bench") == 0o1777  # nobody removes another's
        assert set(modes.values()) == {0o666}


def test_no_place_for_lock_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for name in NO_JOB:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(BenchError, match=r"missing.* set TMPDIR"), lease.gpu(1):
        pass


def test_train_shows_torch_the_leased_gpu_only(tmp_path, monkeypatch, shipped):
    from bench.training import loop as training

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    for name in NO_JOB:
        monkeypatch.delenv(name, raising=False)
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
