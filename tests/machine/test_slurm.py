"""The check of profiles/slurm and the shares of a job array, with a `sinfo` in the place of Slurm's."""

import pytest

from bench import BenchError
from bench.machine import slurm

FILLED = {"slurm_partition": "gpu", "slurm_account": "", "runtime": "240"}


@pytest.fixture
def sinfo(tmp_path, monkeypatch):
    lines = (
        "gpu|1-00:00:00|(null)|REQUEUE",
        "gpu|1-00:00:00|gpu:a100:4(S:0-1)|REQUEUE",
        "cpu|infinite|(null)|OFF",
        "short|30:00|gpu:1|CANCEL",
    )
    (tmp_path / "sinfo").write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_a_profile_that_is_filled_in(sinfo):
    assert slurm.check(FILLED, 4, "auto") == []
    assert slurm.check(FILLED | {"slurm_partition": "gpu,gpu", "slurm_account": "mine", "runtime": "1440"}, 1, "cuda") == []
    assert slurm.check(FILLED | {"slurm_partition": "cpu", "runtime": "100000"}, 0, "cpu") == []


def test_a_partition_that_cancels_what_it_preempts(sinfo):
    (warning,) = slurm.check(FILLED | {"slurm_partition": "gpu,short", "runtime": "30"}, 4, "auto")
    assert warning.startswith("partition short: Slurm cancels what it preempts there")


@pytest.mark.parametrize(
    ("change", "gpus", "sentence"),
    [
        ({"slurm_partition": "FILL-IN"}, 4, "fill in `slurm_partition`, where jobs go; `sinfo -s` lists the partitions"),
        ({"slurm_account": "FILL-IN"}, 4, "fill in `slurm_account`, whom jobs are charged to"),
        ({"slurm_account": "None"}, 4, "fill in `slurm_account`"),  # nothing behind the colon
        ({"runtime": "FILL-IN"}, 4, "fill in `runtime`, minutes"),
        ({"runtime": "4 hours or so"}, 4, "`runtime: 4 hours or so` is no number of minutes"),
        ({}, 0, r"fill in `gpu`, .* write machine: \{device: cpu\} into config.local.yaml"),
        ({"slurm_partition": "gpus"}, 4, "`slurm_partition: gpus`: Slurm has cpu, gpu, short"),
        ({"slurm_partition": "cpu"}, 4, "`slurm_partition: cpu` has no GPUs"),
        ({"runtime": "1441"}, 4, "`runtime: 1441`: partition gpu gives 1440 minutes"),
        ({"slurm_partition": "gpu,short"}, 4, "partition short gives 30 minutes"),
    ],
)
def test_a_line_that_cannot_be_right(sinfo, change, gpus, sentence):
    with pytest.raises(BenchError, match=f"^profiles/slurm/config.yaml: .*{sentence}"):
        slurm.check(FILLED | change, gpus, "auto")


def test_a_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="on a login node"):
        slurm.check(FILLED, 4, "auto")


@pytest.mark.parametrize("first", [0, 1])
def test_tasks_of_an_array_begin_with_shares_of_their_own(monkeypatch, first):
    runs = list(range(11))
    assert slurm.own_first(runs) == runs
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", str(first))
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "4")
    shares = []
    for task in range(first, first + 4):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        order = slurm.own_first(runs)
        assert sorted(order) == runs
        shares += order[: 3 if task - first < 3 else 2]
    assert sorted(shares) == runs
