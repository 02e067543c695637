"""A CPU: oneDNN's convolutions outrun matrix products, and what is formed together has to stay in a core's cache."""

import torch
from torch import nn
from torch.nn.functional import pad, unfold

from bench.dp.optimizer import squared_norms
from bench.dp.rules.kernels import Costs, Kernels, Rows, convolution_backward

# Elements of one sample up to which torch itself leaves oneDNN for patches and a matrix product, and we take many samples at
# a time (`ConvParams::use_mkldnn` of torch 2.13, aten/src/ATen/native/Convolution.cpp).
SMALL_SAMPLE = 20_480


class Cpu(Kernels):
    cached = 2**19
    errors = 8  # a tenth of that was seen

    def costs(self, dtype):
        """Measured on two cores of a Xeon with AVX-512 (bench/speed/NOTES.md)."""
        return Costs(byte=30.0, cached=4.0, product=1.7)

    def operands(self, dtype, x, g):
        return x.to(dtype), g.to(dtype)

    def product(self, a, b):
        return a @ b

    def per_sample_weight(self, layer, x, g, n):
        small = layer.stride[0] == 1 and x.numel() // n <= SMALL_SAMPLE
        return (self._by_patches if small else self._one_by_one)(layer, x, g, n)

    def _one_by_one(self, layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
        """A sample stays in the cache."""
        x, g = x.unflatten(0, (n, -1)), g.unflatten(0, (n, -1))
        gradients = g.new_empty(n, *layer.weight.shape)
        for i in range(n):
            gradients[i] = convolution_backward(layer, layer.weight, x[i], g[i], (False, True))[1]
        return gradients

    def _by_patches(self, layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
        """For stride 1: products with the patches of as many samples as the cache holds, which a strided view gives."""
        size, padding, views = layer.kernel_size[0], layer.padding[0], len(x) // n
        weights, positions = layer.weight[0].numel(), views * g[0, 0].numel()
        count = max(1, self.cached // (weights * positions))
        x = pad(x, [padding] * 4).unfold(2, size, 1).unfold(3, size, 1).unflatten(0, (n, -1))  # (n, K, C, H', W', k, k)
        g = g.unflatten(0, (n, -1)).transpose(1, 2).flatten(2)  # (n, O, K H' W')
        gradients = [
            g_i @ x_i.permute(0, 2, 5, 6, 1, 3, 4).reshape(len(x_i), weights, positions).mT
            for x_i, g_i in zip(x.split(count), g.split(count), strict=True)
        ]
        return torch.cat(gradients).view(n, *layer.weight.shape)

    def weight_gradient(self, layer, x, g):
        return convolution_backward(layer, layer.weight, x, g, (False, True))[1]

    def patches(self, layer, x):
        return unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)

    def nothing_to_remove(self, gone):
        return not gone.any()

    def packed(self, gradients, n):
        def finish_of(p: nn.Parameter):
            return lambda total: [(p, total.view_as(p))]

        return [Rows(gradients.pop(p).reshape(n, -1), finish_of(p)) for p in list(gradients)]

    def squared_norms(self, rows):
        return squared_norms(rows)

    def weighted_sums(self, formed, factors):
        while formed:
            rows = formed.pop()
            yield from rows.finish(factors @ self.remove(rows.matrix, factors, in_place=True))
