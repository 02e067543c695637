"""Convolutions: per-sample gradients or Gram norms, whichever costs less."""

import torch
from torch import nn

from bench.dp.rules.base import GramRule, precision
from bench.dp.rules.devices import kernels_of
from bench.dp.rules.factors import remove, weigh
from bench.dp.rules.gram import weight_norms
from bench.dp.rules.kernels import Costs, Kernels, convolution_backward


class ConvRule(GramRule):
    """Conv2d with equal strides and paddings, no dilation, one group."""

    def forward(self, layer, x):
        return torch.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding), (x,)

    def kernel(self, layer, saved) -> torch.Tensor:
        """The filters that convolve, shaped like the weight."""
        return layer.weight

    def input_gradient(self, layer, saved, g):
        return convolution_backward(layer, self.kernel(layer, saved), saved[0], g, (True, False))[0]

    def exact(self, layer, saved, g):
        dtype = precision(layer)
        x, g = kernels_of(g).operands(dtype, saved[0], g)
        return (x, *(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in saved[1:])), g  # masks stay

    def per_sample(self, layer, saved, g, n):
        yield layer.weight, kernels_of(g).per_sample_weight(layer, saved[0], g, n)
        if layer.bias is not None:
            yield layer.bias, per_sample_bias(layer, g, n)

    def passes(self, kernels: Kernels) -> int:
        """Over formed per-sample gradients: written, read for the norm, read for the sum."""
        return 3

    def gram_product(self, costs: Costs) -> float:
        """Cost of an operation of the products that make Gram matrices."""
        return costs.product

    def gram_convolutions(self, costs: Costs) -> float:
        """Products of weights and positions that Gram norm and weighted sum need together, by their cost."""
        return costs.total

    def gram_is_cheaper(self, layer, saved, g, n):
        x, (kernel, stride) = saved[0], (layer.kernel_size[0], layer.stride[0])
        positions = len(g) // n * g[0, 0].numel()  # of one sample, all views
        weights = layer.weight.numel()
        kernels = kernels_of(g)
        costs = kernels.costs(g.dtype)
        product = 2 * positions * weights
        formed = product + self.passes(kernels) * 4 * weights * costs.byte
        inputs = positions if kernel == 1 else len(x) // n * x[0, 0].numel()
        if kernel == 1 or stride == 1:
            gram = 2 * (inputs**2 * x.shape[1] + positions**2 * g.shape[1]) * self.gram_product(costs)
            gram += 8 * kernel * positions**2 * costs.cached
        else:
            gram = 2 * positions**2 * (x.shape[1] * kernel**2 + g.shape[1]) * self.gram_product(costs)
        return gram + self.gram_convolutions(costs) * product < formed

    def squared_norms(self, layer, saved, g, n):
        norms = weight_norms(layer, saved[0], g, n)
        if layer.bias is not None:
            norms = norms + per_sample_bias(layer, g, n).square().sum(1)
        return norms

    def weighted_sum(self, layer, saved, g, factors):
        x, g = remove(saved[0], factors), weigh(g, factors)
        yield layer.weight, kernels_of(g).weight_gradient(layer, x, g)
        if layer.bias is not None:
            yield layer.bias, g.sum((0, 2, 3))


def per_sample_bias(layer: nn.Conv2d, g: torch.Tensor, n: int) -> torch.Tensor:
    """Gradient of a convolution's bias per sample, (n, C_out)."""
    return g.unflatten(0, (n, -1)).sum((1, 3, 4), dtype=precision(layer))
