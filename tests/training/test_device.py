"""How a device is told to compute."""

import os
import warnings

import pytest
import torch

from bench.training import device


@pytest.fixture
def settings(monkeypatch):
    """Those of the process are as before afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    with warnings.catch_warnings():
        yield
    torch.use_deterministic_algorithms(False)


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
