"""Leaf layers that torch lacks. Each owns its parameters, so that per-sample gradients are taken layer by layer."""

import torch
from torch import nn


class Scalar(nn.Module):
    """One learnable gain, initially 1: (B, ...) -> (B, ...)."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain
