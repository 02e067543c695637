"""Convolutions: per-sample gradients or Gram norms, whichever costs less."""

import torch

from bench.dp.rules.base import GramRule, remove, weigh
from bench.dp.rules.costs import BYTE, PRODUCT
from bench.dp.rules.gram import weight_norms
from bench.dp.rules.per_sample import convolution_backward, per_sample_weight


class ConvRule(GramRule):
    """Conv2d with equal strides and paddings, no dilation, one group."""

    products = 1  # of weights and positions that Gram norm and weighted sum need together
    passes = 3  # over formed per-sample gradients: written, read for the norm, read for the sum

    def forward(self, layer, x):
        return torch.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding), (x,)

    def kernel(self, layer, saved) -> torch.Tensor:
        """The filters that convolve, shaped like the weight."""
        return layer.weight

    def input_gradient(self, layer, saved, g):
        return convolution_backward(layer, self.kernel(layer, saved), saved[0], g, (True, False))[0]

    def per_sample(self, layer, saved, g, n):
        yield layer.weight, per_sample_weight(layer, saved[0], g, n)
        if layer.bias is not None:
            yield layer.bias, per_sample_bias(g, n)

    def gram_is_cheaper(self, layer, saved, g, n):
        x, (kernel, stride) = saved[0], (layer.kernel_size[0], layer.stride[0])
        positions = len(g) // n * g[0, 0].numel()  # of one sample, all views
        weights = layer.weight.numel()
        product = 2 * positions * weights
        formed = product + self.passes * 4 * weights * BYTE
        inputs = positions if kernel == 1 else len(x) // n * x[0, 0].numel()
        if kernel == 1 or stride == 1:
            gram = 2 * (inputs**2 * x.shape[1] + positions**2 * g.shape[1]) * PRODUCT + 8 * kernel * positions**2 * 4
        else:
            gram = 2 * positions**2 * (x.shape[1] * kernel**2 + g.shape[1]) * PRODUCT
        return gram + self.products * product < formed

    def squared_norms(self, layer, saved, g, n):
        norms = weight_norms(layer, saved[0], g, n)
        if layer.bias is not None:
            norms = norms + per_sample_bias(g, n).square().sum(1)
        return norms

    def weighted_sum(self, layer, saved, g, factors):
        x, g = remove(saved[0], factors), weigh(g, factors)
        yield layer.weight, convolution_backward(layer, layer.weight, x, g, (False, True))[1]
        if layer.bias is not None:
            yield layer.bias, g.sum((0, 2, 3))


def per_sample_bias(g: torch.Tensor, n: int) -> torch.Tensor:
    """Gradient of a convolution's bias per sample, (n, C_out)."""
    return g.unflatten(0, (n, -1)).sum((1, 3, 4))
