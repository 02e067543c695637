"""Leaf layers against torch."""

import pytest
import torch
from torch.nn.functional import mish

from bench.layers import Mish

# An exponential, a division and ten products: each rounds once. torch's own float32 is measured with the same yardstick.
ROUNDINGS = 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mish_is_exact_everywhere(dtype):
    x = torch.cat(
        [torch.linspace(-60, 60, 20_001, dtype=dtype), torch.tensor([-1e4, 0.0, -0.0, 19.9, 20.1, 88.0, 1e30], dtype=dtype)]
    )
    x.requires_grad_()
    value = Mish()(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    wide = x.detach().double().requires_grad_()
    expected = mish(wide)
    (steep,) = torch.autograd.grad(expected.sum(), wide)
    bound = ROUNDINGS * torch.finfo(dtype).eps
    assert torch.isfinite(value).all()
    assert ((value.double() - expected).abs() <= bound * expected.abs() + torch.finfo(dtype).tiny).all()
    # the derivative crosses zero near -1.19, where its two terms cancel: relative to the larger of them there
    second = torch.where(wide < 0, wide.abs() * wide.exp(), 0).detach()
    terms = torch.maximum(steep.abs(), second)
    # in the yardstick x (1 - tanh^2) cancels: a rounding of 1 times x
    yardstick = wide.detach().abs().clamp(max=1e3) * torch.finfo(torch.float64).eps
    assert ((slope.double() - steep).abs() <= bound * terms + yardstick).all()


def test_mish_keeps_the_dtype_of_a_bf16_pass():
    x = torch.randn(64, dtype=torch.bfloat16, requires_grad=True)
    value = Mish()(x)
    assert value.dtype == torch.bfloat16
    assert torch.allclose(value.float(), mish(x.float()), rtol=2**-7)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert slope.dtype == torch.bfloat16


def test_mish_under_vmap():
    x = torch.randn(5, 7, dtype=torch.float64)
    slopes = torch.func.vmap(torch.func.grad(lambda row: Mish()(row).sum()))(x)
    (expected,) = torch.autograd.grad(mish(y := x.clone().requires_grad_()).sum(), y)
    assert torch.allclose(slopes, expected, rtol=1e-12, atol=1e-14)
