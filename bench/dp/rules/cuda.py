"""A CUDA GPU: few large launches, few passes over memory, and bf16 operands as they were saved.

Whatever is computed here is as exact as in float32. A product of two bf16 numbers is exact in float32, in which tensor cores
add; cuBLAS splits sums in the type of the result, float32. A weighted output gradient, a float32 number, is the sum of three
bf16 numbers, its 24 bits in three times 8, whose products are exact in turn: with two the sum would be off by 2.6e-6, with
one by 1.7e-3. So a sample's norm and what it adds are of the same numbers, and SLACK (`bench.dp.optimizer`) suffices. tf32,
which rounds its operands, is never allowed (`bench.dp.fast`). Nothing here has been timed on a GPU: constants and choices are
estimates.
"""

import math
from importlib.util import find_spec

import torch
from torch import nn
from torch.nn.functional import embedding_bag, pad

from bench.dp.rules.kernels import Costs, Gradients, Kernels, Rows, convolution_backward

SHIFTED_CHANNELS = 16  # from so many input channels on a product a filter position is large enough to do without patches
GROUPS = 16  # parts of a batch whose sums are formed side by side, so that all multiprocessors have work
SMALL = 2**14  # weights of a parameter up to which its per-sample gradients are copied beside others'


class Cuda(Kernels):
    cached = 2**23  # 32 MiB: most of what is formed stays in an H100's 50 MiB of cache
    errors = 16  # tensor cores may cut off what a CPU rounds: twice a CPU's
    fuses = find_spec("triton") is not None  # torch brings it along for CUDA, on most systems
    spares_passes = True

    def costs(self, dtype):
        """Estimates for an H100: 2.6 TB/s, twice that in the cache, 40 to 45 TFLOP/s in float32, 500 to 600 in bf16.

        A Gram matrix is passed over four times as often as the formula of the rule says, which was measured on a CPU.
        """
        if dtype == torch.bfloat16:
            return Costs(byte=190.0, cached=380.0, product=0.85, total=3.0, full=12.0)
        return Costs(byte=17.0, cached=34.0, product=0.9)

    def operands(self, dtype, x, g):
        if dtype == torch.float32 and x.dtype == g.dtype == torch.bfloat16:
            return x, g
        return x.to(dtype), g.to(dtype)

    def product(self, a, b):
        if a.dtype == torch.bfloat16:
            return torch.bmm(a, b, out_dtype=torch.float32)
        return torch.bmm(a, b)

    def per_sample_weight(self, layer, x, g, n):
        kernel, stride, channels = layer.kernel_size[0], layer.stride[0], x.shape[1]
        shifted = kernel > 1 and stride == 1 and channels >= SHIFTED_CHANNELS
        return (self._shifted if shifted else self._by_patches)(layer, x, g, n)

    def _shifted(self, layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
        """For stride 1: one batched product a filter position, (n, O, C, k, k), whose memory lies as (n, k, k, O, C).

        In one padded copy of the images, pixel by pixel, what position (dy, dx) of the filters sees of a sample is a slice,
        all its views in a row. g lies at the same places of a copy of its own, with zeros where no filter begins.
        """
        size, padding = layer.kernel_size[0], layer.padding[0]
        height, width = x.shape[2] + 2 * padding, x.shape[3] + 2 * padding
        pixels = pad(x.permute(0, 2, 3, 1), (0, 0, *[padding] * 4)).view(n, -1, x.shape[1])  # (n, K height width, C)
        below = (0, 0, 0, width - g.shape[3], 0, height - g.shape[2])
        left = pad(g.permute(0, 2, 3, 1), below).view(n, -1, g.shape[1])  # (n, K height width, O)
        length = left.shape[1] - (size - 1) * (width + 1)  # zeros from here on
        left = left[:, :length].mT
        dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        gradients = x.new_empty(n, size * size, g.shape[1], x.shape[1], dtype=dtype)
        for position in range(size * size):
            start = position // size * width + position % size
            self._product_into(gradients[:, position], left, pixels[:, start : start + length])
        return gradients.permute(0, 2, 3, 1).unflatten(3, (size, size))

    def _by_patches(self, layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
        """For any stride: one batched product with the patches of all of a sample's views, (n, O, C, k, k)."""
        patches = self._windows(layer, x).unflatten(0, (n, -1)).permute(0, 1, 5, 6, 2, 3, 4)  # (n, K, H', W', C, k, k)
        patches = patches.reshape(n, -1, layer.weight[0].numel())
        left = g.unflatten(0, (n, -1)).transpose(1, 2).reshape(n, g.shape[1], -1)  # (n, O, K H' W')
        return self.product(left, patches).unflatten(2, layer.weight.shape[1:])

    def along(self, gradients, directions):
        """One pass over the gradients, as `per_sample_weight` left them in memory: einsum would copy them."""
        if gradients.is_contiguous():
            rows, columns = gradients.flatten(2), torch.stack(directions, -1).flatten(1, 3)
            return torch.bmm(rows.transpose(0, 1), columns).transpose(0, 1)
        _, filters, _, height, width = gradients.shape
        rows = gradients.permute(3, 4, 1, 0, 2).flatten(0, 2)  # (k k O, n, C), a view
        columns = torch.stack([direction.permute(2, 3, 0, 1) for direction in directions], -1).flatten(0, 2)
        return torch.bmm(rows, columns).unflatten(0, (height * width, filters)).sum(0).transpose(0, 1)

    def _product_into(self, out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
        if a.dtype == torch.bfloat16:
            torch.bmm(a, b, out_dtype=torch.float32, out=out)
        else:
            torch.bmm(a, b, out=out)

    @staticmethod
    def _windows(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        """(N, C, k, k, H', W'), a view of the padded images: torch's own unfold launches a kernel an image."""
        size, stride = layer.kernel_size[0], layer.stride[0]
        return pad(x, [layer.padding[0]] * 4).unfold(2, size, stride).unfold(3, size, stride).permute(0, 1, 4, 5, 2, 3)

    def patches(self, layer, x):
        return self._windows(layer, x).flatten(4).flatten(1, 3)

    def weight_gradient(self, layer, x, g):
        if x.dtype != torch.bfloat16:
            return convolution_backward(layer, layer.weight, x, g, (False, True))[1]
        terms = bf16_terms(g)
        gradients = self.per_sample_weight(layer, x, terms, math.gcd(len(x), GROUPS))  # (groups, 3 O, C, k, k)
        return gradients.unflatten(1, (3, -1)).sum((0, 1))

    def nothing_to_remove(self, gone):
        return False  # to know it would be a wait

    def packed(self, gradients, n):
        """Those of few weights side by side in one matrix, copied; the others as they lie in memory."""
        small = [p for p in gradients if p.numel() <= SMALL]
        rows = [_as_it_lies(p, gradients.pop(p)) for p in list(gradients) if p.numel() > SMALL]
        if not small:
            return rows
        matrix = torch.cat([gradients.pop(p).reshape(n, -1) for p in small], 1)

        def finish(total: torch.Tensor) -> Gradients:
            parts = total.split([p.numel() for p in small])
            return [(p, part.view_as(p)) for p, part in zip(small, parts, strict=True)]

        return [*rows, Rows(matrix, finish)]

    def squared_norms(self, rows):
        return torch.linalg.vector_norm(rows, dim=1).double().square()  # a GPU adds in trees

    def weighted_sums(self, formed, factors):
        """One pass over the rows. Those of factor 0 are not read: one that is to be added takes their place, times 0."""
        present = factors != 0
        places = torch.where(present, torch.arange(len(factors), device=factors.device), present.int().argmax())
        bag, none = torch.zeros_like(places[:1]), ~present.any()
        while formed:
            rows = formed.pop()
            total = embedding_bag(places, rows.matrix, bag, per_sample_weights=factors, mode="sum")[0]
            yield from rows.finish(total.masked_fill_(none, 0))


def _as_it_lies(p: nn.Parameter, gradients: torch.Tensor) -> Rows:
    """Rows of per-sample gradients (n, *p.shape) that fill their memory in whatever order of axes, without a copy."""
    if gradients.stride(0) != p.numel():
        gradients = gradients.contiguous()
    strides = gradients.stride()
    matrix = gradients.as_strided((len(gradients), p.numel()), (p.numel(), 1))
    return Rows(matrix, lambda total: [(p, total.as_strided(p.shape, strides[1:]).contiguous())])


def bf16_terms(g: torch.Tensor) -> torch.Tensor:
    """Three bf16 numbers that add up to each of g, float32: (N, O, ...) -> (N, 3 O, ...), the largest first."""
    terms = []
    for _ in range(3):
        terms.append(g.bfloat16())
        g = g - terms[-1]
    return torch.cat(terms, 1)
