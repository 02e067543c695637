"""Every type of device that the rules know."""

import torch

from bench.dp.rules.cpu import Cpu
from bench.dp.rules.cuda import Cuda
from bench.dp.rules.kernels import Kernels

KERNELS: dict[str, Kernels] = {"cpu": Cpu(), "cuda": Cuda()}


def kernels_of(tensor: torch.Tensor) -> Kernels:
    """Those of the device that holds the tensor."""
    return KERNELS[tensor.device.type]
