"""How a device is told to compute."""

import os
import warnings

import pytest
import torch

from bench import BenchError
from bench.machine import gpus
from bench.training import device


@pytest.fixture
def settings(monkeypatch):
    """Those of the process are as before afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    with warnings.catch_warnings():
        yield
    torch.use_deterministic_algorithms(False)


def test_a_gpu_that_torch_cannot_use_is_refused_with_the_driver_that_it_needs(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.15\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    gpus.listed.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(
        BenchError, match=r"machine\.device: cuda: the NVIDIA driver is 550\.54\.15, .* needs 580 or newer.*device: cpu"
    ):
        device.device_of({"device": "cuda"})


def test_deterministic_is_for_gpus_and_can_be_taken_back(settings):
    device.set_deterministic(True, torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    device.set_deterministic(True, torch.device("cuda"))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()  # adaptive pooling has no such form
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    device.set_deterministic(False, torch.device("cuda"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_be_pinned_is_sent_all_the_same(monkeypatch):
    def refuse(self):
        raise RuntimeError("cudaErrorMemoryAllocation")

    sent = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: sent.append((where, how)) or self)
    tensor = torch.arange(3)
    assert device.send(tensor, torch.device("cuda")) is tensor
    assert sent == [((torch.device("cuda"),), {"non_blocking": True})]
