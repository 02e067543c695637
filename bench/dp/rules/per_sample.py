"""Per-sample gradients of a convolution's filters, in the form that suits the device."""

import torch
from torch import nn
from torch.nn.functional import pad, unfold

from bench.dp.rules.costs import CACHED_ELEMENTS

# Elements of one sample up to which torch itself leaves oneDNN for patches and a matrix product, and we take many samples at
# a time (`ConvParams::use_mkldnn` of torch 2.13, aten/src/ATen/native/Convolution.cpp).
SMALL_SAMPLE = 20_480


def per_sample_weight(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """Gradient of a convolution's weight per sample, (n, C_out, C_in, k, k)."""
    if x.device.type != "cpu":
        return _all_at_once(layer, x, g, n)
    small = layer.stride[0] == 1 and x.numel() // n <= SMALL_SAMPLE
    return (_by_patches if small else _one_by_one)(layer, x, g, n)


def _one_by_one(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """For a CPU: oneDNN's convolutions outrun matrix products, and a sample stays in the cache."""
    x, g = x.unflatten(0, (n, -1)), g.unflatten(0, (n, -1))
    gradients = g.new_empty(n, *layer.weight.shape)
    for i in range(n):
        gradients[i] = convolution_backward(layer, layer.weight, x[i], g[i], (False, True))[1]
    return gradients


def _by_patches(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """For a CPU and stride 1: products with the patches of as many samples as the cache holds, which a strided view gives."""
    size, padding, views = layer.kernel_size[0], layer.padding[0], len(x) // n
    weights, positions = layer.weight[0].numel(), views * g[0, 0].numel()
    count = max(1, CACHED_ELEMENTS["cpu"] // (weights * positions))
    x = pad(x, [padding] * 4).unfold(2, size, 1).unfold(3, size, 1).unflatten(0, (n, -1))  # (n, K, C, H', W', k, k)
    g = g.unflatten(0, (n, -1)).transpose(1, 2).flatten(2)  # (n, O, K H' W')
    gradients = [
        g_i @ x_i.permute(0, 2, 5, 6, 1, 3, 4).reshape(len(x_i), weights, positions).mT
        for x_i, g_i in zip(x.split(count), g.split(count), strict=True)
    ]
    return torch.cat(gradients).view(n, *layer.weight.shape)


def _all_at_once(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """For a GPU: few large products instead of many small launches."""
    patches = unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # (N, C_in k k, T)
    per_view = g.flatten(2) @ patches.mT  # (N, C_out, C_in k k)
    return per_view.unflatten(0, (n, -1)).sum(1).view(n, *layer.weight.shape)


def convolution_backward(
    layer: nn.Conv2d, kernel: torch.Tensor, x: torch.Tensor, g: torch.Tensor, wanted: tuple[bool, bool]
) -> tuple:
    """(gradient of x, gradient of the filters `kernel`), None where not wanted; the latter uses the filters' shape only."""
    return torch.ops.aten.convolution_backward(
        g, x, kernel.to(g.dtype), None, layer.stride, layer.padding, (1, 1), False, (0, 0), 1, (*wanted, False)
    )[:2]
