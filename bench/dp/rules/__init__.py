"""Per-sample gradients, their norms and weighted sums, layer type by layer type.

Everywhere n samples have K views each, the batch holds N = n K images, view by view within a sample, and a sample's gradient
is the sum over its views of what autograd hands to the layer (the mean over views is in the loss). x is a layer's input,
g the gradient of its output. Weighted sums are sum_i c_i g_i for clip factors c (n,), over the samples whose factor is not
0: the others may hold inf or NaN. No rule lets such a sample touch another one's numbers.

A file a layer type; `RULES` names them all.
"""

from torch import nn

from bench.dp.rules.base import GramRule, Rule
from bench.dp.rules.conv import ConvRule
from bench.dp.rules.factors import remove
from bench.dp.rules.kernels import Rows
from bench.dp.rules.linear import LinearRule
from bench.dp.rules.norm import GroupNormRule
from bench.dp.rules.scalar import ScalarRule
from bench.dp.rules.weight_standardised import WSConvRule
from bench.layers import Scalar, WSConv2d

__all__ = ["RULES", "GramRule", "Rows", "Rule", "remove"]

RULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: ConvRule(),
    WSConv2d: WSConvRule(),
    nn.Linear: LinearRule(),
    nn.GroupNorm: GroupNormRule(),
    Scalar: ScalarRule(),
}
