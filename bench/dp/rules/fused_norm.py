"""A group norm and the activation next to it in a sequence, in one kernel each way, where a device has them.

Numbers are those of the two layers; between them they stay in the parameters' precision, where autocast would round them.
"""

from collections.abc import Iterator

from torch import nn

from bench.dp.rules.base import Rule
from bench.layers import Mish

KINDS: dict[type[nn.Module], int] = {nn.ReLU: 1, Mish: 2}  # as the kernels count them; 0 is none


class FusedNormRule(Rule):
    """GroupNorm with affine parameters, after activation `before` and before activation `after`."""

    def __init__(self, before: int, after: int):
        self.before, self.after = before, after

    def forward(self, layer, x):
        from bench.dp.rules import triton_groupnorm  # torch runs without Triton, too

        x = x.contiguous()
        weight, bias = layer.weight.detach(), layer.bias.detach()
        y, mean, rstd = triton_groupnorm.forward(x, weight, bias, layer.num_groups, layer.eps, self.before, self.after)
        return y, (x, mean, rstd)

    def backward(self, layer, saved, g, wanted):
        from bench.dp.rules import triton_groupnorm

        x, mean, rstd = saved
        weight, bias = layer.weight.detach(), layer.bias.detach()
        below, both = triton_groupnorm.backward(
            x, g.contiguous(), weight, bias, mean, rstd, layer.num_groups, self.before, self.after
        )
        return below, (), both

    def input_gradient(self, layer, saved, g):
        return self.backward(layer, saved, g, True)[0]

    def per_sample(self, layer, saved, g, n):
        """From the gradients of each image that `backward` gave, (2, N, C): of the weight and of the bias."""
        yield from zip((layer.weight, layer.bias), g.unflatten(1, (n, -1)).sum(2), strict=True)


def steps(sequence: nn.Sequential) -> Iterator[tuple[nn.Module, Rule | None]]:
    """(layer, None) of a sequence, in order; for a norm and the activation after, else before it: (norm, their rule)."""
    layers = list(sequence)
    while layers:
        first, second = layers[0], layers[1] if len(layers) > 1 else None
        if fuses(first) and type(second) in KINDS:
            yield first, FusedNormRule(0, KINDS[type(second)])
        elif type(first) in KINDS and second is not None and fuses(second):
            yield second, FusedNormRule(KINDS[type(first)], 0)
        else:
            yield first, None
            second = None
        del layers[: 1 if second is None else 2]


def fuses(layer: nn.Module) -> bool:
    """Whether the layer is a norm that `FusedNormRule` knows."""
    return type(layer) is nn.GroupNorm and layer.affine
