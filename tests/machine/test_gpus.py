"""GPU names as CUDA reads them, against an nvidia-smi that says what the real one says."""

import re
import sys

import pytest

from bench import BenchError, machine
from bench.machine import gpus

# `nvidia-smi -L` with four GPUs, of which the third is split; UUIDs made up
LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-8932aaaa-0000-4106-c12f-20bd9faed9f6)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1c.3g.20gb  Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 3: NVIDIA H100 (UUID: GPU-00000000-6756-fd30-cd4a-1e6da3caf9b0)
"""
ZERO, ONE, TWO, THREE = (line.split("UUID: ")[1][:-1] for line in LISTING.splitlines() if line.startswith("GPU"))
FIRST, SECOND = (line.split("UUID: ")[1][:-1] for line in LISTING.splitlines() if line.startswith("  MIG"))


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi in front of PATH, which lists `listing` and names driver `driver`."""

    def make(listing: str = LISTING, driver: str = "580.95.05", code: int = 0) -> None:
        (tmp_path / "listing").write_text(listing)
        program = tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && cat {tmp_path}/listing || echo {driver}\nexit {code}\n')
        program.chmod(0o755)
        gpus.listed.cache_clear()

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield make
    gpus.listed.cache_clear()


def test_without_the_variable_every_gpu_counts_and_of_a_split_one_every_instance(smi):
    smi()
    assert gpus.visible() == [ZERO, ONE, FIRST, SECOND, THREE]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("0", [ZERO]),
        ("3,0", [THREE, ZERO]),
        (" 3 , 0 ", [THREE, ZERO]),
        (ZERO, [ZERO]),
        ("GPU-8932f", [ZERO]),
        ("GPU-0", [THREE]),
        (f"{SECOND},{FIRST}", [SECOND, FIRST]),
        ("MIG-a28a", [SECOND]),
        ("2", [FIRST]),  # CUDA takes the first instance of a split GPU
        (TWO, [FIRST]),
        (f"MIG-{TWO}/1/0", [f"MIG-{TWO}/1/0"]),
        ("0,GPU-00", [ZERO, THREE]),  # kinds mixed: each run is shown one of them
        ("1x,0", [ONE, ZERO]),
        ("00", [ZERO]),
        # a name of nothing ends the list
        ("", []),
        ("-1", []),
        ("1,-1,0", [ONE]),
        ("1,,0", [ONE]),
        ("7", []),
        ("0,7,1", [ZERO]),
        ("0,7,0", [ZERO]),
        ("GPU-8932", []),  # two have that prefix
        ("GPU-f", []),
        ("MIG-f", []),
        (f"MIG-{ZERO}/1/0", []),  # not split
        ("none", []),
        ("void", []),
        ("all", []),
        ("NoDevFiles", []),
    ],
)
def test_names_are_read_as_cuda_reads_them(smi, monkeypatch, asked, expected):
    smi()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert gpus.visible() == expected


@pytest.mark.parametrize("asked", ["0,0", f"0,{ZERO}", "GPU-8932f,0", "3,1,GPU-00", f"2,{FIRST}"])
def test_a_gpu_named_twice_is_refused_since_cuda_shows_none(smi, monkeypatch, asked):
    smi()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    with pytest.raises(
        BenchError, match=r"CUDA_VISIBLE_DEVICES=.*: (GPU|MIG)-\S+ is named twice, and CUDA then shows none; name each once"
    ):
        gpus.visible()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("2,0", ["2", "0"]), ("1,-1,0", ["1"]), ("GPU-8f, MIG-1/2", ["GPU-8f", "MIG-1/2"]), ("", []), ("none", [])],
)
def test_without_nvidia_smi_names_are_taken_at_their_word(monkeypatch, tmp_path, asked, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    gpus.listed.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert gpus.visible() == expected
    assert not machine.has_cuda()


def test_a_driver_that_does_not_answer_lists_nothing(smi):
    smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", code=9)
    assert gpus.visible() == []
    assert not machine.has_cuda()


def test_a_lost_gpu_keeps_the_numbers_of_the_others(smi, monkeypatch):
    lines = LISTING.splitlines(keepends=True)
    lines[0] = "Unable to determine the device handle for gpu 0000:07:00.0: GPU is lost.\n"
    smi("".join(lines))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpus.visible() == [ONE]


def test_auto_means_the_gpu_that_is_left_visible(smi, monkeypatch):
    smi()
    assert machine.has_cuda()
    for hidden in ("", "-1", "7"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not machine.has_cuda()


@pytest.mark.parametrize(
    ("driver", "cuda", "says"),
    [
        (
            "550.54.15",
            "13.0",
            r"driver is 550\.54\.15.* needs 580 or newer.* driver 525 is enough: `make -B setup TORCH=cu126`",
        ),
        ("515.1", "12.6", r"driver is 515\.1.* needs 525 or newer"),
        ("580.65.06", "13.0", r"driver 580\.65\.06 lists a GPU, but CUDA 13\.0 cannot use it"),
        ("550.54.15", None, r"torch 2\.13\.0\+x is a build without CUDA; `make -B setup` installs one"),
    ],
)
def test_why_torch_sees_no_gpu(smi, driver, cuda, says):
    smi(driver=driver)
    assert re.search(says, gpus.why_none("2.13.0+x", cuda))


def test_why_torch_sees_no_gpu_that_is_hidden_or_not_there(smi, monkeypatch):
    smi()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert "CUDA_VISIBLE_DEVICES=5 names none of the GPUs of this machine: 0 (GPU-8932f937" in gpus.why_none("2.13.0", "13.0")
    smi("")
    assert "nvidia-smi lists no GPU" in gpus.why_none("2.13.0", "13.0")


def test_in_a_conda_environment_conda_is_the_way_out(smi, monkeypatch):
    smi(driver="550.54.15")
    monkeypatch.setenv("CONDA_PREFIX", sys.prefix)
    assert "CONDA_OVERRIDE_CUDA=12.9" in gpus.why_none("2.13.0", None)
    assert "CONDA_OVERRIDE_CUDA=12.9" in gpus.why_none("2.13.0", "13.0")
