"""Norm and activation in one kernel against the two layers; on a CPU in Triton's interpreter, where Triton is installed."""

import os

import pytest
import torch
from torch import nn

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed")

from bench.dp.gradients import ENGINES
from bench.dp.rules.fused_norm import FusedNormRule, steps
from bench.layers import Mish
from tests.dp.test_gradients import EXACT, alone, batch_of, clipped_sum, network_of, summed

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs the kernels in the tests of the engines")
ACTIVATIONS = [nn.Identity(), nn.ReLU(), Mish()]
SHAPES = {  # (groups, channels, pixels): one and several tiles, sizes that are no powers of 2
    "groups": (3, 6, 5),
    "instance": (6, 6, 4),
    "layer": (1, 6, 3),
    "large": (2, 2, 70),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "before", "after"),
    [("groups", 0, 2), ("groups", 1, 0), ("instance", 0, 1), ("layer", 2, 0), ("layer", 0, 0), ("large", 0, 2)],
)
def test_both_ways(shape, before, after, dtype):
    groups, channels, size = SHAPES[shape]
    torch.manual_seed(0)
    layer = nn.GroupNorm(groups, channels).to(torch.float64 if dtype == torch.float64 else torch.float32)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x, g = (3 * torch.randn(4, channels, size, size)).to(dtype), torch.randn(4, channels, size, size).to(dtype)

    def both(x):
        return ACTIVATIONS[after](layer.double()(ACTIVATIONS[before](x)))

    rule = FusedNormRule(before, after)
    with torch.no_grad():
        output, saved = rule.forward(layer, x)
        below, saved, shift = rule.backward(layer, saved, g, True)
        found = dict(rule.per_sample(layer, saved, shift, 2))
    wide = x.double().requires_grad_()
    expected = [
        torch.autograd.grad(both(x_i), list(layer.parameters()), g_i)
        for x_i, g_i in zip(wide.split(2), g.double().split(2), strict=True)
    ]
    exact = EXACT if dtype == torch.float64 else 1e-5  # sums of up to 9,800 numbers in float32: about sqrt(9800) 2^-24
    rounded = EXACT if dtype == torch.float64 else 2**-8  # of bf16 results
    expected_below = torch.autograd.grad(both(wide), wide, g.double())[0]
    assert (output - both(wide)).norm() < rounded * both(wide).norm()
    assert (below - expected_below).norm() < rounded * expected_below.norm()
    for p, gradients in zip(layer.parameters(), map(torch.stack, zip(*expected, strict=True)), strict=True):
        assert found[p].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (found[p] - gradients).norm() < exact * gradients.norm()


def test_what_is_fused():
    norm, other, plain = nn.GroupNorm(2, 4), nn.GroupNorm(2, 4), nn.GroupNorm(2, 4, affine=False)
    conv, relu, mish = nn.Conv2d(4, 4, 1), nn.ReLU(), Mish()

    def told(*layers):
        return [(layer, rule and (rule.before, rule.after)) for layer, rule in steps(nn.Sequential(*layers))]

    assert told(conv, norm, mish, conv) == [(conv, None), (norm, (0, 2)), (conv, None)]
    assert told(relu, norm, conv) == [(norm, (1, 0)), (conv, None)]
    assert told(norm, other, relu) == [(norm, None), (other, (0, 1))]
    assert told(plain, relu) == [(plain, None), (relu, None)]
    assert told(relu, conv) == [(relu, None), (conv, None)]
    assert told(relu, norm, relu) == [(norm, (1, 0)), (relu, None)]
    assert told() == []


@pytest.mark.parametrize(
    ("arch", "variant"),
    [("wrn10-1", "baseline"), pytest.param("resnet9-w8", "shared-norm", marks=pytest.mark.slow)],
)
def test_clipped_sum(arch, variant, as_on_a_gpu):
    as_on_a_gpu.fuses = True
    network = network_of(arch, variant)
    images, labels = batch_of(2, 1)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).mean().item()
    expected = clipped_sum(gradients, clip_norm)
    found, _ = summed(network, ENGINES["fast"], images, labels, clip_norm, 2)
    assert (found - expected).norm() < EXACT * expected.norm()
    assert not any("forward" in vars(module) for module in network.modules())
