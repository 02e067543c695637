"""Per-sample gradients, their norms and weighted sums, layer type by layer type.

Everywhere n samples have K views each, the batch holds N = n K images, view by view within a sample, and a sample's gradient
is the sum over its views of what autograd hands to the layer (the mean over views is in the loss). x is a layer's input,
g the gradient of its output. Weighted sums are sum_i c_i g_i for clip factors c (n,), over the samples whose factor is not
0: the others may hold inf or NaN. No rule lets such a sample touch another one's numbers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import pad, unfold

from bench.layers import Scalar, WSConv2d

Saved = tuple[torch.Tensor, ...]
Gradients = Iterable[tuple[nn.Parameter, torch.Tensor]]

# Costs of a byte moved and of a matrix product's operation, in operations of a large convolution. Measured on two cores of a
# Xeon with AVX-512 (bench/speed/NOTES.md); a GPU's ratios are similar. They only decide speed, and are fixed so that a
# machine's load cannot change the order of a run's sums.
BYTE = 30.0
PRODUCT = 1.7
# Elements of Gram matrices or patches that are formed together: what a core's cache holds; on a GPU, what hides the launches.
CACHED_ELEMENTS = {"cpu": 2**19, "cuda": 2**26}
# Elements of one sample up to which torch itself leaves oneDNN for patches and a matrix product, and we take many samples at
# a time (`ConvParams::use_mkldnn` of torch 2.13, aten/src/ATen/native/Convolution.cpp).
SMALL_SAMPLE = 20_480
# Rounding errors of a Gram norm, 2^-24 in float32 each, that its upper bound has room for; a tenth of that was seen.
ERRORS = 8


class Rule(ABC):
    """What the fast engine must know of a layer type. Without Gram norms, per-sample gradients are always formed."""

    @abstractmethod
    def forward(self, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        """(output, tensors that the other methods get as `saved`)."""

    @abstractmethod
    def input_gradient(self, layer: nn.Module, saved: Saved, g: torch.Tensor) -> torch.Tensor:
        """Gradient of x, shaped like x."""

    @abstractmethod
    def per_sample(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> Gradients:
        """(parameter, (n, *parameter.shape)) of each of the layer's parameters."""

    def gram_is_cheaper(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> bool:
        return False


class GramRule(Rule):
    """A layer whose norms also come from Gram matrices, without its per-sample gradients."""

    @abstractmethod
    def gram_is_cheaper(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> bool:
        """Whether Gram norm and weighted sum together cost less than forming and weighting per-sample gradients."""

    @abstractmethod
    def squared_norms(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> torch.Tensor:
        """(n,): squared norm over all of the layer's parameters, or a little more: never less than the weighted sum has."""

    @abstractmethod
    def weighted_sum(self, layer: nn.Module, saved: Saved, g: torch.Tensor, factors: torch.Tensor) -> Gradients:
        """(parameter, sum_i factors_i g_i) of each of the layer's parameters, over the samples whose factor is not 0."""


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
        return _convolution_backward(layer, self.kernel(layer, saved), saved[0], g, (True, False))[0]

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
        yield layer.weight, _convolution_backward(layer, layer.weight, x, g, (False, True))[1]
        if layer.bias is not None:
            yield layer.bias, g.sum((0, 2, 3))


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

    def per_sample(self, layer, saved, g, n):
        x, mean, rstd = saved
        shift = g.flatten(2).sum(2)  # (N, C)
        product = torch.linalg.vecdot(g.flatten(2), x.flatten(2))
        repeats = layer.num_channels // layer.num_groups
        mean, rstd = mean.repeat_interleave(repeats, 1), rstd.repeat_interleave(repeats, 1)
        scale = (product - mean * shift) * rstd  # sum over positions of g (x - mean) rstd
        yield layer.weight, scale.unflatten(0, (n, -1)).sum(1)
        yield layer.bias, shift.unflatten(0, (n, -1)).sum(1)


class ScalarRule(Rule):
    def forward(self, layer, x):
        return x * layer.gain, (x,)

    def input_gradient(self, layer, saved, g):
        return g * layer.gain

    def per_sample(self, layer, saved, g, n):
        yield layer.gain, torch.linalg.vecdot(g.reshape(n, -1), saved[0].reshape(n, -1))


def weigh(g: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """g (n * K, ...) times its sample's factor (n,), zero where that is 0."""
    return remove(g * _spread(factors, g), factors, in_place=True)


def remove(x: torch.Tensor, factors: torch.Tensor, *, in_place: bool = False) -> torch.Tensor:
    """x (n * K, ...) with zeros for the samples of factor 0: they may hold inf or NaN, which times 0 is NaN."""
    gone = factors == 0
    if gone.device.type == "cpu" and not gone.any():  # a GPU would have to be waited for
        return x
    return (x.masked_fill_ if in_place else x.masked_fill)(_spread(gone, x), 0)


def _spread(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values (n,), of each sample of x (n * K, ...), to be combined with x: (n * K, 1, ...)."""
    return values.repeat_interleave(len(x) // len(values)).view(-1, *[1] * (x.dim() - 1))


def per_sample_weight(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """Gradient of a convolution's weight per sample, (n, C_out, C_in, k, k)."""
    if x.device.type != "cpu":
        return _all_at_once(layer, x, g, n)
    small = layer.stride[0] == 1 and x.numel() // n <= SMALL_SAMPLE
    return (_by_patches if small else _one_by_one)(layer, x, g, n)


def _one_by_one(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """For a CPU: oneDNN's convolutions outrun matrix products, and a sample stays in the cache."""
    x, g = x.unflatten(0, (n, -1)), g.unflatten(0, (n, -1))
    gradients = g.new_empty(n, *layer.weight.shape)
    for i in range(n):
        gradients[i] = _convolution_backward(layer, layer.weight, x[i], g[i], (False, True))[1]
    return gradients


def _by_patches(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """For a CPU and stride 1: products with the patches of as many samples as the cache holds, which a strided view gives."""
    size, padding, views = layer.kernel_size[0], layer.padding[0], len(x) // n
    weights, positions = layer.weight[0].numel(), views * g[0, 0].numel()
    count = max(1, CACHED_ELEMENTS["cpu"] // (weights * positions))
    x = pad(x, [padding] * 4).unfold(2, size, 1).unfold(3, size, 1).unflatten(0, (n, -1))  # (n, K, C, H', W', k, k)
    g = g.unflatten(0, (n, -1)).transpose(1, 2).flatten(2)  # (n, O, K H' W')
    gradients = [
        g_i @ x_i.permute(0, 2, 5, 6, 1, 3, 4).reshape(len(x_i), weights, positions).mT
        for x_i, g_i in zip(x.split(count), g.split(count), strict=True)
    ]
    return torch.cat(gradients).view(n, *layer.weight.shape)


def _all_at_once(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """For a GPU: few large products instead of many small launches."""
    patches = unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # (N, C_in k k, T)
    per_view = g.flatten(2) @ patches.mT  # (N, C_out, C_in k k)
    return per_view.unflatten(0, (n, -1)).sum(1).view(n, *layer.weight.shape)


def per_sample_bias(g: torch.Tensor, n: int) -> torch.Tensor:
    """Gradient of a convolution's bias per sample, (n, C_out)."""
    return g.unflatten(0, (n, -1)).sum((1, 3, 4))


def weight_norms(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    """Squared norms of a convolution's weight gradients from Gram matrices, (n,), few samples at a time."""
    views = len(g) // n
    count = max(1, CACHED_ELEMENTS[x.device.type] // (views * g[0, 0].numel()) ** 2)
    parts = zip(x.split(count * views), g.split(count * views), strict=True)
    return torch.cat([_weight_norms(layer, x_i, g_i, len(g_i) // views) for x_i, g_i in parts])


def _weight_norms(layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
    return gram_norms(patch_gram(layer, x, n), _gram(g.unflatten(0, (n, -1))))


def gram_norms(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Squared norms (n,) from Gram matrices (n, T, T) of inputs and output gradients: their inner product, rounded upwards.

    Its terms have both signs. Where they cancel, of a 1x1 convolution over a nearly constant image say, a rounded inner
    product can be far below the squared norm, and clipping by it would let the sample add more than C. Its error is random
    and of the order of the precision times the product of the matrices' lengths, so ERRORS times that is added.
    """
    inputs, outputs = inputs.flatten(1), outputs.flatten(1)
    lengths = torch.linalg.vector_norm(inputs, dim=1) * torch.linalg.vector_norm(outputs, dim=1)
    return torch.linalg.vecdot(inputs, outputs) + ERRORS * torch.finfo(inputs.dtype).eps / 2 * lengths


def patch_gram(layer: nn.Conv2d, x: torch.Tensor, n: int) -> torch.Tensor:
    """Inner products of the input patches at all pairs of output positions of a sample, (n, T, T), T over all views.

    At stride 1 a patch is a window of the image, so that the products are those of single pixels summed along
    diagonals, in rows first and columns then: k^2 times fewer multiplications than from the patches themselves.
    """
    size, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    x = x.unflatten(0, (n, -1))  # (n, K, C, H, W)
    if size == 1:
        return _gram(pad(x, [padding] * 4)[..., ::stride, ::stride])
    if stride != 1:
        patches = unfold(x.flatten(0, 1), layer.kernel_size, padding=layer.padding, stride=layer.stride)
        return _gram(patches.unflatten(0, (n, -1)).unsqueeze(-1))
    gram = _gram(x)
    views, (height, width) = x.shape[1], x.shape[3:]
    gram = gram.view(n, views, height, width, views, height, width)
    for row, column in ((3, 6), (2, 5)):  # the two axes of columns, then of rows
        length = gram.shape[row]
        out = length + 2 * padding - size + 1
        # pad both axes, then add the `size` shifted diagonals
        widths = [0, 0] * (6 - column) + [padding] * 2 + [0, 0] * 2 + [padding] * 2
        padded = pad(gram, widths)
        diagonals = [padded.narrow(row, shift, out).narrow(column, shift, out) for shift in range(size)]
        gram = diagonals[0] + diagonals[1]
        for diagonal in diagonals[2:]:
            gram += diagonal
    positions = views * gram.shape[2] * gram.shape[3]
    return gram.reshape(n, positions, positions)


def _gram(x: torch.Tensor) -> torch.Tensor:
    """(n, K, C, H, W) -> inner products over C of all pairs of positions, (n, K H W, K H W)."""
    x = x.transpose(1, 2).flatten(2)  # (n, C, K H W)
    return x.mT @ x


def _convolution_backward(
    layer: nn.Conv2d, kernel: torch.Tensor, x: torch.Tensor, g: torch.Tensor, wanted: tuple[bool, bool]
) -> tuple:
    """(gradient of x, gradient of the filters `kernel`), None where not wanted; the latter uses the filters' shape only."""
    return torch.ops.aten.convolution_backward(
        g, x, kernel.to(g.dtype), None, layer.stride, layer.padding, (1, 1), False, (0, 0), 1, (*wanted, False)
    )[:2]


RULES: dict[type[nn.Module], Rule] = {
    nn.Conv2d: ConvRule(),
    WSConv2d: WSConvRule(),
    nn.Linear: LinearRule(),
    nn.GroupNorm: GroupNormRule(),
    Scalar: ScalarRule(),
}
