"""Triton kernels of a group norm and the activation before or after it: one pass over memory forward, one backward.

A program has a group of an image, C / G channels of H W pixels that lie together, as tiles (rows, columns) of all its
channels and some pixels. What it reads twice is in the cache the second time. With z the norm's output, a its input:

    gradients of gamma and beta of an image: sum dz xhat, sum dz over pixels, xhat = (a - mean) / deviation
    gradient of a:                           (gamma dz - mean(gamma dz) - xhat mean(gamma dz xhat)) / deviation
"""

import torch
import triton
import triton.language as tl

TILE = 4096  # numbers of a program at a time


@triton.jit
def _value(x, KIND: tl.constexpr):
    if KIND == 2:  # by one exponential, as `bench.layers.Mish`
        w = tl.exp(tl.minimum(x, 20.0))
        n = w * (w + 2.0)
        x = x * (n / (n + 2.0))
    elif KIND == 1:
        x = tl.where(x <= 0.0, 0.0, x)  # NaN stays
    return x


@triton.jit
def _slope(x, KIND: tl.constexpr):
    if KIND == 2:
        bounded = tl.minimum(x, 20.0)
        w = tl.exp(bounded)
        n = w * (w + 2.0)
        x = n / (n + 2.0) + 4.0 * bounded * (w + w * w) / ((n + 2.0) * (n + 2.0))
    elif KIND == 1:
        x = tl.where(x <= 0.0, 0.0, 1.0).to(x.dtype)
    else:
        x = x * 0.0 + 1.0
    return x


@triton.jit
def _places(group, at, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """(offsets of a tile's numbers, whether they exist)"""
    row, column = tl.arange(0, ROWS)[:, None], at + tl.arange(0, COLUMNS)[None, :]
    offsets = group.to(tl.int64) * CHANNELS * PIXELS + row * PIXELS + column
    return offsets, (row < CHANNELS) & (column < PIXELS)


@triton.jit
def _forward(
    X, GAMMA, BETA, Y, MEAN, RSTD, groups, eps, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
    BEFORE: tl.constexpr, AFTER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    group, size = tl.program_id(0), CHANNELS * PIXELS
    wide: tl.constexpr = GAMMA.dtype.element_ty
    total = tl.zeros([ROWS, COLUMNS], wide)
    for at in range(0, PIXELS, COLUMNS):
        offsets, exists = _places(group, at, CHANNELS, PIXELS, ROWS, COLUMNS)
        a = _value(tl.load(X + offsets, mask=exists, other=0.0).to(wide), BEFORE)
        total += tl.where(exists, a, 0.0)
    mean = tl.sum(tl.sum(total, 1), 0) / size
    total = tl.zeros([ROWS, COLUMNS], wide)
    for at in range(0, PIXELS, COLUMNS):
        offsets, exists = _places(group, at, CHANNELS, PIXELS, ROWS, COLUMNS)
        a = _value(tl.load(X + offsets, mask=exists, other=0.0).to(wide), BEFORE)
        total += tl.where(exists, (a - mean) * (a - mean), 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(tl.sum(total, 1), 0) / size + eps)
    tl.store(MEAN + group, mean)
    tl.store(RSTD + group, rstd)
    channel = group % groups * CHANNELS + tl.arange(0, ROWS)
    there = tl.arange(0, ROWS) < CHANNELS
    gamma, beta = tl.load(GAMMA + channel, mask=there, other=0.0), tl.load(BETA + channel, mask=there, other=0.0)
    for at in range(0, PIXELS, COLUMNS):
        offsets, exists = _places(group, at, CHANNELS, PIXELS, ROWS, COLUMNS)
        a = _value(tl.load(X + offsets, mask=exists, other=0.0).to(wide), BEFORE)
        y = _value((a - mean) * rstd * gamma[:, None] + beta[:, None], AFTER)
        tl.store(Y + offsets, y.to(Y.dtype.element_ty), mask=exists)


@triton.jit
def _backward(
    X, DY, GAMMA, BETA, MEAN, RSTD, DX, DGAMMA, DBETA, groups, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
    BEFORE: tl.constexpr, AFTER: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    group, size = tl.program_id(0), CHANNELS * PIXELS
    wide: tl.constexpr = GAMMA.dtype.element_ty
    mean, rstd = tl.load(MEAN + group), tl.load(RSTD + group)
    channel = group % groups * CHANNELS + tl.arange(0, ROWS)
    there = tl.arange(0, ROWS) < CHANNELS
    gamma, beta = tl.load(GAMMA + channel, mask=there, other=0.0), tl.load(BETA + channel, mask=there, other=0.0)
    along, total = tl.zeros([ROWS, COLUMNS], wide), tl.zeros([ROWS, COLUMNS], wide)
    for at in range(0, PIXELS, COLUMNS):
        offsets, exists = _places(group, at, CHANNELS, PIXELS, ROWS, COLUMNS)
        a = _value(tl.load(X + offsets, mask=exists, other=0.0).to(wide), BEFORE)
        xhat = (a - mean) * rstd
        slope = _slope(xhat * gamma[:, None] + beta[:, None], AFTER)
        dz = tl.where(exists, tl.load(DY + offsets, mask=exists, other=0.0).to(wide) * slope, 0.0)
        along += tl.where(exists, dz * xhat, 0.0)
        total += dz
    dgamma, dbeta = tl.sum(along, 1), tl.sum(total, 1)
    image = group // groups * (groups * CHANNELS)
    tl.store(DGAMMA + image + channel, dgamma, mask=there)
    tl.store(DBETA + image + channel, dbeta, mask=there)
    aslope, offset = tl.sum(gamma * dgamma, 0) / size, tl.sum(gamma * dbeta, 0) / size
    for at in range(0, PIXELS, COLUMNS):
        offsets, exists = _places(group, at, CHANNELS, PIXELS, ROWS, COLUMNS)
        x = tl.load(X + offsets, mask=exists, other=0.0).to(wide)
        a = _value(x, BEFORE)
        xhat = (a - mean) * rstd
        slope = _slope(xhat * gamma[:, None] + beta[:, None], AFTER)
        dz = tl.load(DY + offsets, mask=exists, other=0.0).to(wide) * slope
        dx = (gamma[:, None] * dz - offset - xhat * aslope) * rstd * _slope(x, BEFORE)
        tl.store(DX + offsets, dx.to(DX.dtype.element_ty), mask=exists)


def _grid(x: torch.Tensor, groups: int) -> tuple[tuple[int], dict]:
    """(programs, sizes that kernels take)."""
    channels, pixels = x.shape[1] // groups, x[0, 0].numel()
    rows = triton.next_power_of_2(channels)
    columns = min(triton.next_power_of_2(pixels), max(TILE // rows, 1))
    return (len(x) * groups,), {
        "CHANNELS": channels, "PIXELS": pixels, "groups": groups, "ROWS": rows, "COLUMNS": columns,
        "num_warps": max(1, min(8, rows * columns // 512)),
    }  # fmt: skip


def forward(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, groups: int, eps: float, before: int, after: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(after(norm(before(x))) (N, C, H, W) in x's dtype, mean and 1 / deviation (N, G) in gamma's); x is contiguous."""
    grid, sizes = _grid(x, groups)
    y = torch.empty_like(x)
    mean, rstd = gamma.new_empty(len(x), groups), gamma.new_empty(len(x), groups)
    _forward[grid](x, gamma, beta, y, mean, rstd, eps=eps, BEFORE=before, AFTER=after, **sizes)
    return y, mean, rstd


def backward(
    x: torch.Tensor, g: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor,
    groups: int, before: int, after: int,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """(gradient of x in its dtype, those of gamma and beta of each image (2, N, C) in gamma's); x and g are contiguous."""
    grid, sizes = _grid(x, groups)
    dx = torch.empty_like(x)
    both = gamma.new_empty(2, *x.shape[:2])
    _backward[grid](x, g, gamma, beta, mean, rstd, dx, *both, BEFORE=before, AFTER=after, **sizes)
    return dx, both
