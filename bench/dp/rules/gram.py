"""Norms of weight gradients from Gram matrices of inputs and output gradients (Goodfellow 2015, arXiv 1510.01799)."""

import torch
from torch import nn
from torch.nn.functional import pad

from bench.dp.rules.devices import kernels_of


def weight_norms(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """Squared norms of a convolution's weight gradients from Gram matrices, (n,), few samples at a time."""
    views = len(g) // n
    count = max(1, kernels_of(x).cached // (views * g[0, 0].numel()) ** 2)
    parts = zip(x.split(count * views), g.split(count * views), strict=True)
    return torch.cat([_weight_norms(layer, x_i, g_i, len(g_i) // views) for x_i, g_i in parts])


def _weight_norms(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    return gram_norms(patch_gram(layer, x, n), _gram(g.unflatten(0, (n, -1))))


def gram_norms(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Squared norms (n,) from Gram matrices (n, T, T) of inputs and output gradients: their inner product, rounded upwards.

    Its terms have both signs. Where they cancel, of a 1x1 convolution over a nearly constant image say, a rounded inner
    product can be far below the squared norm, and clipping by it would let the sample add more than C. Its error is random
    and of the order of the precision times the product of the matrices' lengths, so `errors` times that is added.
    """
    inputs, outputs = inputs.flatten(1), outputs.flatten(1)
    lengths = torch.linalg.vector_norm(inputs, dim=1) * torch.linalg.vector_norm(outputs, dim=1)
    return torch.linalg.vecdot(inputs, outputs) + kernels_of(inputs).errors * torch.finfo(inputs.dtype).eps / 2 * lengths


def patch_gram(layer: nn.Conv2d, x: torch.Tensor, n: int) -> torch.Tensor:
    """Inner products of the input patches at all pairs of output positions of a sample, (n, T, T), T over all views.

    At stride 1 a patch is a window of the image, so that the products are those of single pixels summed along
    diagonals, in rows first and columns then: k^2 times fewer multiplications than from the patches themselves.
    """
    size, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    x = x.unflatten(0, (n, -1))  # (n, K, C, H, W)
    if size == 1:
        return _gram(pad(x, [padding] * 4)[..., ::stride, ::stride])
    if stride != 1:
        patches = kernels_of(x).patches(layer, x.flatten(0, 1))
        return _gram(patches.unflatten(0, (n, -1)).unsqueeze(-1))
    gram = _gram(x)
    views, (height, width) = x.shape[1], x.shape[3:]
    gram = gram.view(n, views, height, width, views, height, width)
    for row, column in ((3, 6), (2, 5)):  # the two axes of columns, then of rows
        length = gram.shape[row]
        out = length + 2 * padding - size + 1
        # pad both axes, then add the `size` shifted diagonals
        widths = [0, 0] * (6 - column) + [padding] * 2 + [0, 0] * 2 + [padding] * 2
        padded = pad(gram, widths)
        diagonals = [padded.narrow(row, shift, out).narrow(column, shift, out) for shift in range(size)]
        gram = diagonals[0] + diagonals[1]
        for diagonal in diagonals[2:]:
            gram += diagonal
    positions = views * gram.shape[2] * gram.shape[3]
    return gram.reshape(n, positions, positions)


def _gram(x: torch.Tensor) -> torch.Tensor:
    """(n, K, C, H, W) -> inner products over C of all pairs of positions, (n, K H W, K H W)."""
    x = x.transpose(1, 2).flatten(2)  # (n, C, K H W)
    return kernels_of(x).product(x.mT, x)
