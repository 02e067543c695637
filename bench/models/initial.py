"""Initial weights of convolutions and linear layers; a family names its own with `initialise`. Norms start at 1 and 0."""

import math

import torch
from torch import nn


def torch_default(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> None:
    """Weights and biases uniform on +-1 / sqrt(fan_in), as torch's own layers start."""
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    if layer.bias is not None:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        layer.bias.uniform_(-bound, bound, generator=generator)


def truncated_normal(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> None:
    """Weights normal with variance 1 / fan_in after truncation at two deviations (haiku's VarianceScaling), zero biases."""
    std = layer.weight[0].numel() ** -0.5 / 0.87962566103423978  # the deviation that truncation leaves of 1
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    nn.init.zeros_(layer.bias)
