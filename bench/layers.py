"""Leaf layers that torch lacks. Each owns its parameters, so that per-sample gradients are taken layer by layer."""

import torch
from torch import nn

# Floor of a filter's sum of squares, so that the smallest filters are scaled by a constant.
FLOOR = 1e-4


class Scalar(nn.Module):
    """One learnable gain, initially 1: (B, ...) -> (B, ...)."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain


class WSConv2d(nn.Conv2d):
    """Convolution with scaled weight standardisation, bias and a gain per output channel: (B, I, H, W) -> (B, O, H', W').

    As De et al. 2022 (google-deepmind/jax_privacy, image_classification/models/common.py; Brock et al. 2021, section 4.2):
    each filter is centred and divided by its length, which is that of fan_in weights of variance 1 / fan_in.
    """

    def __init__(self, channels_in: int, channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__(channels_in, channels, kernel_size, stride, padding)
        self.gain = nn.Parameter(torch.ones(channels))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Weights from N(0, 1 / fan_in), zero biases; the gain starts at 1 and draws nothing."""
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5, generator=generator)
        nn.init.zeros_(self.bias)

    def standardise(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(unit filters (O, I, k, k), their factor (O, 1, 1, 1) from centred ones, where the floor is not reached)."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        squares = centred.square().sum((1, 2, 3), keepdim=True)  # fan_in times the variance over fan_in
        factor = squares.clamp(min=FLOOR).rsqrt()
        return centred * factor, factor, squares >= FLOOR

    def kernel(self) -> torch.Tensor:
        """The filters that convolve, (O, I, k, k)."""
        return self.standardise()[0] * self.gain.view(-1, 1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(x, self.kernel(), self.bias, self.stride, self.padding)
