"""Convolutions with scaled weight standardisation."""

import torch

from bench.dp.rules.base import Saved
from bench.dp.rules.conv import ConvRule, per_sample_bias
from bench.dp.rules.devices import kernels_of
from bench.dp.rules.gram import weight_norms
from bench.dp.rules.kernels import Gradients, Rows
from bench.layers import WSConv2d

# Rounding errors of a squared norm that is a difference, 2^-24 in float32 each, that its upper bound has room for. Those of
# the inner products with ones and u, added in rows of up to 512 terms, are about sqrt(512) / 3, twice that in a square;
# four times that. A norm grows by 2e-6 of itself.
ROUNDING = 64


class WSConvRule(ConvRule):
    """WSConv2d. With G the gradient of a filter that convolves, gain * u, u = factor * (w - mean w):

        gradient of the gain:  <G, u>
        gradient of w:         gain * factor * (G - mean G - <G, u> u), the last term only where the floor is not reached

    There u has length 1 and is orthogonal to constants, so that the second one's squared norm is
    (gain * factor)^2 (||G||^2 - fan_in (mean G)^2 - <G, u>^2). Hence the Gram norm of g scaled by gain * factor, less the
    inner products of G with ones and u: they are g's with the outputs of convolutions by ones and by u, without forming G.
    """

    def passes(self, kernels):
        """Those of ConvRule, and reading for each of two means; without `formed`, reading and writing both gradients, too."""
        return 5 if kernels.spares_passes else 7

    def gram_product(self, costs):
        return costs.product * costs.full  # g is scaled

    def gram_convolutions(self, costs):
        return costs.total + costs.full  # the convolution by ones and u

    def forward(self, layer, x):
        saved = (x, *layer.standardise())
        return torch.conv2d(x, self.kernel(layer, saved), layer.bias, layer.stride, layer.padding), saved

    def kernel(self, layer, saved):
        return saved[1] * layer.gain.view(-1, 1, 1, 1)

    def per_sample(self, layer, saved, g, n):
        return self._pulled_back(layer, saved[1:], super().per_sample(layer, saved, g, n))

    def weighted_sum(self, layer, saved, g, factors):
        return self._pulled_back(layer, saved[1:], super().weighted_sum(layer, saved, g, factors))

    def _pulled_back(self, layer: WSConv2d, standardised: Saved, gradients: Gradients) -> Gradients:
        """As `gradients`, those of the filters (..., O, I, k, k) turned into those of weight and gain."""
        unit, factor, free = standardised
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
        x = x.to(unit.dtype)
        scale = layer.gain * factor.flatten()  # (O,)
        filters = torch.cat([unit, torch.ones_like(unit[:1])])
        outputs = torch.conv2d(x, filters, None, layer.stride, layer.padding)  # (N, O + 1, H', W')
        along = (g * outputs[:, :-1]).unflatten(0, (n, -1)).sum((1, 3, 4))  # (n, O)
        total = (g * outputs[:, -1:]).unflatten(0, (n, -1)).sum((1, 3, 4))  # (n, O)
        removed = total.square() / unit[0].numel() + along.square() * free.flatten()
        norms = weight_norms(layer, x, g * scale.view(-1, 1, 1), n) - (removed * scale.square()).sum(1)
        # a difference of rounded sums: zero may come out below zero
        return norms.clamp(min=0) + along.square().sum(1) + per_sample_bias(layer, g, n).square().sum(1)

    def formed(self, layer, saved, g, n):
        """Rows are G's: gradients of weight and gain are linear in it, and made of the weighted sum."""
        kernels = kernels_of(g)
        if not kernels.spares_passes:
            return None
        x, unit, factor, free = saved
        filters = kernels.per_sample_weight(layer, x, g, n)
        along, total = kernels.along(filters, [unit, torch.ones_like(unit)]).unbind(-1)  # (n, O)
        squares = torch.linalg.vector_norm(filters, dim=(2, 3, 4)).square()
        rest = squares * (1 + ROUNDING * torch.finfo(squares.dtype).eps / 2)
        rest = rest.addcmul_(total, total, value=-1 / unit[0].numel()).addcmul_(along, along * free.flatten(), value=-1)
        of_gain = torch.einsum("no,no->n", along, along)
        norms = torch.addmv(of_gain, rest.clamp_(min=0), (layer.gain * factor.flatten()).square())
        (rows,) = kernels.packed({layer.weight: filters}, n)
        standardised = saved[1:]  # x may go

        def finish(total: torch.Tensor) -> Gradients:
            return self._pulled_back(layer, standardised, rows.finish(total))

        return norms, Rows(rows.matrix, finish), {layer.bias: per_sample_bias(layer, g, n)}
