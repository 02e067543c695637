"""Group norms."""

import math

import torch

from bench.dp.rules.base import Rule, precision


class GroupNormRule(Rule):
    """GroupNorm with affine parameters: per-sample gradients are (n, C) and always kept."""

    def forward(self, layer, x):
        n, c, size = x.shape[0], x.shape[1], math.prod(x.shape[2:])
        output, mean, rstd = torch.native_group_norm(
            x.to(layer.weight.dtype), layer.weight, layer.bias, n, c, size, layer.num_groups, layer.eps
        )  # fmt: skip
        return output.to(x.dtype), (x, mean, rstd)

    def input_gradient(self, layer, saved, g):
        x, mean, rstd = saved
        n, c, size = x.shape[0], x.shape[1], math.prod(x.shape[2:])
        dtype = layer.weight.dtype
        return torch.ops.aten.native_group_norm_backward(
            g.contiguous().to(dtype),
            x.to(dtype),
            mean,
            rstd,
            layer.weight,
            n,
            c,
            size,
            layer.num_groups,
            (True, False, False),
        )[0]

    def backward(self, layer, saved, g, wanted):
        """In the parameters' precision once for all, input gradient and sums."""
        dtype = precision(layer)
        return super().backward(layer, tuple(tensor.to(dtype) for tensor in saved), g.to(dtype), wanted)

    def per_sample(self, layer, saved, g, n):
        x, mean, rstd = saved
        shift = g.flatten(2).sum(2)  # (N, C)
        product = torch.linalg.vecdot(g.flatten(2), x.flatten(2))
        groups = (layer.num_groups, -1)
        scale = product.unflatten(1, groups) - mean[..., None] * shift.unflatten(1, groups)
        scale = (scale * rstd[..., None]).flatten(1)  # sum over positions of g (x - mean) rstd
        yield layer.weight, scale.unflatten(0, (n, -1)).sum(1)
        yield layer.bias, shift.unflatten(0, (n, -1)).sum(1)
