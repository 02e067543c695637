"""Forms of a convolution's per-sample gradients: the same numbers from different kernels, to be timed on a new device.

Each takes (layer, x (N, C, H, W), g (N, O, H', W'), n), N = n K, and gives (n, O, C, k, k), in float32 of bf16 operands.
"""

import torch
from torch import nn
from torch.nn.functional import pad, unfold

from bench.dp.rules.devices import kernels_of


def by_unfold(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """torch's patches, which take a kernel an image on a GPU."""
    patches = unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # (N, C k k, T)
    return _shaped(layer, product(_views_in_a_row(g, n), _views_in_a_row(patches, n).mT))


def by_windows(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """Patches by one copy of a strided view."""
    (size, _), (stride, _) = layer.kernel_size, layer.stride
    windows = pad(x, [layer.padding[0]] * 4).unfold(2, size, stride).unfold(3, size, stride)  # (N, C, H', W', k, k)
    patches = windows.unflatten(0, (n, -1)).permute(0, 1, 3, 4, 2, 5, 6).reshape(n, -1, layer.weight[0].numel())
    return _shaped(layer, product(_views_in_a_row(g, n), patches))


def by_shifts(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """Stride 1: a product for each of the filter's k k places, on slices of one padded copy; no patches."""
    size, padding = layer.kernel_size[0], layer.padding[0]
    width = x.shape[3] + 2 * padding
    pixels = pad(x.permute(0, 2, 3, 1), (0, 0, *[padding] * 4)).reshape(n, -1, x.shape[1])  # (n, K height width, C)
    below = (0, 0, 0, width - g.shape[3], 0, x.shape[2] + 2 * padding - g.shape[2])
    left = pad(g.permute(0, 2, 3, 1), below).reshape(n, -1, g.shape[1])
    length = left.shape[1] - (size - 1) * (width + 1)  # zeros from here on
    starts = [row * width + column for row in range(size) for column in range(size)]
    parts = [product(left[:, :length].mT, pixels[:, start : start + length]) for start in starts]
    return torch.stack(parts, -1).view(n, *layer.weight.shape)


def by_groups(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """One convolution with a group a sample, its views being the batch. The result is bf16 where the operands are."""
    x, g = (t.unflatten(0, (n, -1)).transpose(0, 1).flatten(1, 2) for t in (x, g))  # (K, n C, H, W)
    weight = layer.weight.to(x.dtype).repeat(n, 1, 1, 1)  # only its shape counts
    more = (None, layer.stride, layer.padding, (1, 1), False, (0, 0), n, (False, True, False))
    return _shaped(layer, torch.ops.aten.convolution_backward(g, x, weight, *more)[1].unflatten(0, (n, -1)))


def by_the_engine(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """As the fast engine has them on this device."""
    kernels = kernels_of(g)
    return kernels.per_sample_weight(layer, *kernels.operands(layer.weight.dtype, x, g), n)


FORMS = {"engine": by_the_engine, "unfold": by_unfold, "windows": by_windows, "shifts": by_shifts, "groups": by_groups}


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Batched a @ b; of bf16 numbers, whose products are exact in float32, added and returned in float32."""
    if a.dtype != torch.bfloat16:
        return a @ b
    return torch.bmm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def _views_in_a_row(tensor: torch.Tensor, n: int) -> torch.Tensor:
    """(n * K, C, ...) -> (n, C, K T)."""
    return tensor.flatten(2).unflatten(0, (n, -1)).transpose(1, 2).flatten(2)


def _shaped(layer: nn.Conv2d, gradients: torch.Tensor) -> torch.Tensor:
    return gradients.reshape(-1, *layer.weight.shape)
