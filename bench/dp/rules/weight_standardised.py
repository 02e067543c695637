"""Convolutions with scaled weight standardisation."""

import torch

from bench.dp.rules.base import Gradients, Saved
from bench.dp.rules.conv import ConvRule, per_sample_bias
from bench.dp.rules.gram import weight_norms
from bench.layers import WSConv2d


class WSConvRule(ConvRule):
    """WSConv2d. With G the gradient of a filter that convolves, gain * u, u = factor * (w - mean w):

        gradient of the gain:  <G, u>
        gradient of w:         gain * factor * (G - mean G - <G, u> u), the last term only where the floor is not reached

    There u has length 1 and is orthogonal to constants, so that the second one's squared norm is
    (gain * factor)^2 (||G||^2 - fan_in (mean G)^2 - <G, u>^2). Hence the Gram norm of g scaled by gain * factor, less the
    inner products of G with ones and u: they are g's with the outputs of convolutions by ones and by u, without forming G.
    """

    products = 2  # the convolution by ones and u
    passes = 7  # those of ConvRule, and for the two gradients: read for each of the two means, read and written

    def forward(self, layer, x):
        saved = (x, *layer.standardise())
        return torch.conv2d(x, self.kernel(layer, saved), layer.bias, layer.stride, layer.padding), saved

    def kernel(self, layer, saved):
        return saved[1] * layer.gain.view(-1, 1, 1, 1)

    def per_sample(self, layer, saved, g, n):
        return self._pulled_back(layer, saved, super().per_sample(layer, saved, g, n))

    def weighted_sum(self, layer, saved, g, factors):
        return self._pulled_back(layer, saved, super().weighted_sum(layer, saved, g, factors))

    def _pulled_back(self, layer: WSConv2d, saved: Saved, gradients: Gradients) -> Gradients:
        """As `gradients`, those of the filters (..., O, I, k, k) turned into those of weight and gain."""
        _, unit, factor, free = saved
        for p, gradient in gradients:
            if p is not layer.weight:
                yield p, gradient
                continue
            along = torch.einsum("...oikl,oikl->...o", gradient, unit)
            yield layer.gain, along
            gradient.sub_(gradient.mean((-3, -2, -1), keepdim=True))  # in place: the largest tensor of a step
            gradient.addcmul_(along[..., None, None, None], unit * free, value=-1)
            yield layer.weight, gradient.mul_(layer.gain.view(-1, 1, 1, 1) * factor)

    def squared_norms(self, layer, saved, g, n):
        x, unit, factor, free = saved
        scale = layer.gain * factor.flatten()  # (O,)
        filters = torch.cat([unit, torch.ones_like(unit[:1])])
        outputs = torch.conv2d(x, filters, None, layer.stride, layer.padding)  # (N, O + 1, H', W')
        along = (g * outputs[:, :-1]).unflatten(0, (n, -1)).sum((1, 3, 4))  # (n, O)
        total = (g * outputs[:, -1:]).unflatten(0, (n, -1)).sum((1, 3, 4))  # (n, O)
        removed = total.square() / unit[0].numel() + along.square() * free.flatten()
        norms = weight_norms(layer, x, g * scale.view(-1, 1, 1), n) - (removed * scale.square()).sum(1)
        # a difference of rounded sums: zero may come out below zero
        return norms.clamp(min=0) + along.square().sum(1) + per_sample_bias(g, n).square().sum(1)
