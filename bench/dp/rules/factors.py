"""Clip factors upon the samples of a batch."""

import torch

from bench.dp.rules.devices import kernels_of
from bench.dp.rules.kernels import spread


def weigh(g: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """g (n * K, ...) times its sample's factor (n,), zero where that is 0; of the factors' precision if that is higher."""
    return remove(g * spread(factors, g), factors, in_place=True)


def remove(x: torch.Tensor, factors: torch.Tensor, *, in_place: bool = False) -> torch.Tensor:
    """As `Kernels.remove`."""
    return kernels_of(x).remove(x, factors, in_place=in_place)
