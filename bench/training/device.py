"""The device of a run: which one it is, how it computes, and how data get there."""

import contextlib
import os
import warnings

import torch

from bench import BenchError
from bench.machine import gpus, uses_gpu


def device_of(machine: dict) -> torch.device:
    """The device that `machine.device` means here; BenchError where it asks for a GPU that torch cannot use."""
    if not uses_gpu(machine):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = gpus.why_none(torch.__version__, torch.version.cuda)
        raise BenchError(f"machine.device: {machine['device']}: {why}. Or set machine: {{device: cpu}} in config.local.yaml")
    return torch.device("cuda")


def set_deterministic(on: bool, device: torch.device) -> None:
    """Lets a GPU add in a fixed order, or in what order is fastest; to be called before it multiplies. A CPU's is fixed.

    What has no such form warns and is used: of the networks here, adaptive pooling, whose windows do not overlap where its
    output divides its input, so that nothing is added.
    """
    if device.type != "cuda":
        return
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS: workspaces that streams do not share
        warnings.filterwarnings("ignore", message="adaptive_max_pool2d_backward")
    torch.use_deterministic_algorithms(on, warn_only=True)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` of the CPU on `device`, without a wait where its memory can be pinned."""
    if device.type == "cuda":
        with contextlib.suppress(RuntimeError):  # little can be pinned under WSL, say: then the driver copies it first
            tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
