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


class Mish(nn.Module):
    """x tanh(softplus(x)) (Misra 2019, arXiv 1908.08681): torch's on a GPU; on a CPU exact, too, in a third of its time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mish(x) if x.is_cuda else _Mish.apply(x)[0]


class _Mish(torch.autograd.Function):
    """With w = exp(x) and n = w (w + 2): tanh(softplus(x)) = n / (n + 2), and mish' is that + 4 x w (w + 1) / (n + 2)^2.

    One exponential instead of three functions forward and as many backward, and no difference of close numbers anywhere:
    the result has a relative error of a few roundings. From x = 20 on mish is x and its slope 1 in float64, so that w and
    the x of the second term may stay there.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        bounded = wide.clamp(max=20.0)
        w = bounded.exp()
        n = (w + 2).mul_(w)
        inverse = (n + 2).reciprocal_()
        tanh = n.mul_(inverse)
        derivative = torch.addcmul(w, w, w).mul_(inverse).mul_(inverse).mul_(bounded).mul_(4).add_(tanh)
        return (tanh * wide).to(x.dtype), derivative.to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx, gradient, _):
        (derivative,) = ctx.saved_tensors
        return gradient * derivative


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
