"""A single learnable gain."""

import torch

from bench.dp.rules.base import Rule


class ScalarRule(Rule):
    """Scalar on (N, ...)."""

    def forward(self, layer, x):
        return x * layer.gain, (x,)

    def input_gradient(self, layer, saved, g):
        return g * layer.gain

    def per_sample(self, layer, saved, g, n):
        yield layer.gain, torch.linalg.vecdot(g.reshape(n, -1), saved[0].reshape(n, -1))
