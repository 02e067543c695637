"""Each layer rule against autograd, one sample at a time: whichever norm the cost model picks must be exact."""

import itertools

import pytest
import torch
from torch import nn

from bench.dp.rules import RULES
from bench.dp.rules.factors import weigh
from bench.layers import Scalar, WSConv2d
from tests.dp.test_gradients import EXACT

CONVOLUTIONS = [
    {"kernel_size": kernel, "stride": stride, "padding": padding, "bias": bias}
    for kernel, stride, padding, bias in itertools.product((1, 3), (1, 2), (0, 1), (False, True))
]
LAYERS = [
    *(pytest.param(lambda keys=keys: nn.Conv2d(5, 6, **keys), (5, 8, 8), id=f"conv {keys}") for keys in CONVOLUTIONS),
    *(
        pytest.param(lambda args=args: WSConv2d(5, 6, *args), (5, 8, 8), id=f"ws conv {args}")
        for args in itertools.product((1, 3), (1, 2), (0, 1))
    ),
    pytest.param(lambda: nn.Conv2d(3, 4, 7, stride=2, padding=3), (3, 16, 16), id="conv of a stem"),
    pytest.param(lambda: nn.Conv2d(16, 6, 3, padding=1), (16, 6, 5), id="conv of many channels"),
    pytest.param(lambda: WSConv2d(17, 6, 3, padding=1), (17, 6, 5), id="ws conv of many channels"),
    pytest.param(lambda: nn.Linear(7, 4), (7,), id="linear"),
    pytest.param(lambda: nn.Linear(7, 4, bias=False), (7,), id="linear without bias"),
    pytest.param(lambda: nn.GroupNorm(3, 6), (6, 8, 8), id="group norm"),
    pytest.param(lambda: nn.GroupNorm(6, 6), (6, 4, 4), id="instance norm"),
    pytest.param(Scalar, (6, 4, 4), id="scalar"),
]


pytestmark = pytest.mark.usefixtures("ways")


@pytest.fixture(params=[1, 3], ids="K = {}".format)
def views(request):
    return request.param


def case(make, shape, views, n=4):
    """(layer, its input, the gradient of its output, per-sample parameter gradients by autograd)."""
    torch.manual_seed(0)
    layer = make().double()
    for p in layer.parameters():
        nn.init.normal_(p)
    if isinstance(layer, WSConv2d):  # filters below the floor, one of them constant, beside others above it
        layer.weight.data[::2] *= 1e-4
        layer.weight.data[0] = 1.0
    x = torch.randn(n * views, *shape, dtype=torch.float64, requires_grad=True)
    g = torch.randn_like(layer(x))
    expected = [
        torch.autograd.grad(layer(x_i), list(layer.parameters()), g_i)
        for x_i, g_i in zip(x.split(views), g.split(views), strict=True)
    ]
    return layer, x, g, [torch.stack(rows) for rows in zip(*expected, strict=True)]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_forward_and_gradients(make, shape, views):
    layer, x, g, expected = case(make, shape, views)
    rule = RULES[type(layer)]
    output, saved = rule.forward(layer, x)
    torch.testing.assert_close(output, layer(x))
    torch.testing.assert_close(rule.input_gradient(layer, saved, g), torch.autograd.grad(layer(x), x, g)[0])
    with torch.no_grad():
        found = dict(rule.per_sample(layer, saved, g, 4))
    for p, gradients in zip(layer.parameters(), expected, strict=True):
        assert (found[p] - gradients).norm() < EXACT * gradients.norm()


@pytest.mark.parametrize(("make", "shape"), [c for c in LAYERS if "conv" in c.id or "linear" in c.id])
def test_gram_norms_and_weighted_sums(make, shape, views):
    layer, x, g, expected = case(make, shape, views)
    rule = RULES[type(layer)]
    _, saved = rule.forward(layer, x)
    squared = sum(gradients.flatten(1).pow(2).sum(1) for gradients in expected)
    factors = torch.rand(4, dtype=torch.float64)
    with torch.no_grad():
        assert (rule.squared_norms(layer, saved, g, 4) / squared - 1).abs().max() < EXACT
        found = dict(rule.weighted_sum(layer, saved, g, factors))
    for p, gradients in zip(layer.parameters(), expected, strict=True):
        total = torch.einsum("n,n...->...", factors, gradients)
        assert (found[p] - total).norm() < EXACT * total.norm()


def test_wsconv_is_de_et_als_formula():
    layer = case(lambda: WSConv2d(5, 6, 3), (5, 8, 8), 1)[0]
    fan_in = layer.weight[0].numel()
    for weight, gain, kernel in zip(layer.weight, layer.gain, layer.kernel(), strict=True):
        variance = ((weight - weight.mean()) ** 2).mean()
        scale = gain / max(variance * fan_in, torch.tensor(1e-4)).sqrt()
        torch.testing.assert_close(kernel, weight * scale - weight.mean() * scale)


def test_wsconv_starts_as_de_et_als():
    torch.manual_seed(0)
    layer = WSConv2d(64, 128, 3)
    count = layer.weight.numel()
    # six standard errors of a standard deviation, and of a mean
    assert layer.weight.std().item() == pytest.approx((64 * 9) ** -0.5, rel=6 / (2 * count) ** 0.5)
    assert layer.weight.abs().max() > 3 * (64 * 9) ** -0.5  # normal, not truncated
    assert (layer.bias == 0).all()
    assert (layer.gain == 1).all()


def test_weigh_repeats_a_factor_over_the_views():
    assert weigh(torch.ones(4, 1), torch.tensor([2.0, 3.0])).flatten().tolist() == [2, 2, 3, 3]
