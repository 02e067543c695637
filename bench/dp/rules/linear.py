"""Linear layers."""

import torch

from bench.dp.rules.base import GramRule
from bench.dp.rules.factors import remove, weigh
from bench.dp.rules.gram import gram_norms


class LinearRule(GramRule):
    """Linear on (N, in)."""

    def forward(self, layer, x):
        return torch.nn.functional.linear(x, layer.weight, layer.bias), (x,)

    def input_gradient(self, layer, saved, g):
        return g @ layer.weight.to(g.dtype)

    def per_sample(self, layer, saved, g, n):
        x, g = saved[0].unflatten(0, (n, -1)), g.unflatten(0, (n, -1))
        yield layer.weight, torch.einsum("nko,nki->noi", g, x)
        if layer.bias is not None:
            yield layer.bias, g.sum(1)

    def gram_is_cheaper(self, layer, saved, g, n):
        return len(g) // n < min(layer.weight.shape)

    def squared_norms(self, layer, saved, g, n):
        x, g = saved[0].unflatten(0, (n, -1)), g.unflatten(0, (n, -1))
        inputs, outputs = x @ x.mT, g @ g.mT  # (n, K, K)
        if layer.bias is not None:
            inputs = inputs + 1  # a bias is the weight of an input that is always 1
        return gram_norms(inputs, outputs)

    def weighted_sum(self, layer, saved, g, factors):
        x, g = remove(saved[0], factors), weigh(g, factors)
        yield layer.weight, g.mT @ x
        if layer.bias is not None:
            yield layer.bias, g.sum(0)
