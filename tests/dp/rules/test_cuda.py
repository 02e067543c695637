"""The ways of a GPU, on a CPU: no pass and no launch that there is no need for, and bf16 operands that lose nothing."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.dp.gradients import ENGINES
from bench.dp.optimizer import SLACK
from bench.dp.rules import RULES, Rows
from bench.dp.rules.cuda import SMALL, Cuda, bf16_terms
from bench.dp.rules.kernels import convolution_backward
from bench.layers import WSConv2d
from tests.dp.rules.test_rules import case
from tests.dp.test_gradients import EXACT, batch_of, network_of, summed

CONVOLUTIONS = {
    "shifted": lambda: nn.Conv2d(16, 8, 3, padding=1, bias=False),
    "few channels": lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False),
    "strided": lambda: nn.Conv2d(16, 8, 3, stride=2, padding=1, bias=False),
    "1x1": lambda: nn.Conv2d(16, 8, 1, bias=False),
}


def bf16_case(kind, n=6, views=2):
    """(layer, x, g), the two bf16 numbers."""
    torch.manual_seed(0)
    layer = CONVOLUTIONS[kind]()
    x = torch.randn(n * views, layer.in_channels, 8, 8).bfloat16()
    return layer, x, torch.randn(layer(x.float()).shape).bfloat16()


class Watch(TorchDispatchMode):
    """The names of all operations, and the dtypes of what products take."""

    def __init__(self):
        super().__init__()
        self.names, self.products = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name.removeprefix("aten::"))
        if self.names[-1] in ("bmm", "mm", "baddbmm_"):
            self.products |= {tensor.dtype for tensor in args if isinstance(tensor, torch.Tensor)}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_bf16_operands_stay_as_they_are_and_give_float32_gradients(kind):
    layer, x, g = bf16_case(kind)
    (kept,), gradient = RULES[nn.Conv2d].exact(layer, (x,), g)
    assert kept is not x  # a CPU computes in float32
    kept, gradient = Cuda().operands(torch.float32, x, g)
    assert kept is x
    assert gradient is g
    with Watch() as watch, torch.no_grad():
        found = Cuda().per_sample_weight(layer, x, g, 6)
    assert watch.products == {torch.bfloat16}
    assert found.dtype == torch.float32
    expected = [
        convolution_backward(layer, layer.weight, x_i.double(), g_i.double(), (False, True))[1]
        for x_i, g_i in zip(x.split(2), g.split(2), strict=True)
    ]
    expected = torch.stack(expected)
    # sums of 128 exact products in float32
    assert (found.double() - expected).norm() < 128 * 2**-24 * expected.norm()


def test_operands_of_two_kinds_are_taken_in_full():
    x, g = torch.randn(2, 3).bfloat16(), torch.randn(2, 3)
    assert {tensor.dtype for tensor in Cuda().operands(torch.float32, x, g)} == {torch.float32}
    assert {tensor.dtype for tensor in Cuda().operands(torch.float64, x, x)} == {torch.float64}


def test_three_bf16_numbers_are_a_float32_number():
    torch.manual_seed(0)
    g = torch.randn(4, 2, 100) * torch.logspace(-20, 20, 100)
    terms = bf16_terms(g)
    assert terms.shape == (4, 6, 100)
    assert terms.dtype == torch.bfloat16
    assert torch.equal(terms.double().unflatten(1, (3, 2)).sum(1), g.double())


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("images", [12, 32])  # 4 and 16 parts side by side
def test_weighted_output_gradients_lose_nothing_beside_bf16_inputs(kind, images):
    layer, x, g = bf16_case(kind, images // 2)
    g = g.float() * torch.rand(images, 1, 1, 1)
    with torch.no_grad():
        found = Cuda().weight_gradient(layer, x, g)
    expected = convolution_backward(layer, layer.weight, x.double(), g.double(), (False, True))[1]
    # with two terms 2.6e-6 of the terms' lengths, with one 1.7e-3; float32 sums: see above, over up to 16 parts
    assert (found.double() - expected).norm() < 2**-21 * expected.norm()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("arch", "views"), [("resnet9-w8", 1), ("wrn10-1", 2), ("resnet18-w8", 1)])
def test_no_launch_for_every_image(arch, views):
    """torch's own unfold launches a kernel an image on a GPU, and a wait for the device would be one more."""
    network = network_of(arch, "scalenorm")
    counts = []
    for n in (2, 7):
        with Watch() as watch:
            summed(network, ENGINES["fast"], *batch_of(n, views), 1.0, n)
        assert not {"im2col", "unfold_backward", "nonzero", "masked_select"} & set(watch.names)
        assert watch.names.count("_local_scalar_dense") == 1  # the loss, which the test reads
        counts.append(len(watch.names))
    assert counts[0] == counts[1]


def test_large_gradients_are_not_copied_and_small_ones_share_a_matrix():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1)
    assert layer.weight.numel() > SMALL
    with torch.no_grad():
        gradients = Cuda().per_sample_weight(layer, torch.randn(3, 64, 6, 6), torch.randn(3, 64, 6, 6), 3)
    gain = nn.Parameter(torch.ones(()))
    bias, gains = torch.randn(3, 64), torch.randn(3)
    large, small = Cuda().packed({layer.bias: bias, layer.weight: gradients, gain: gains}, 3)
    assert large.matrix.data_ptr() == gradients.data_ptr()
    assert small.matrix.shape == (3, 65)
    ((p, total),) = large.finish(large.matrix.sum(0))
    assert p is layer.weight
    torch.testing.assert_close(total, gradients.sum(0))
    assert {p: total.shape for p, total in small.finish(small.matrix.sum(0))} == {layer.bias: (64,), gain: ()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_rows_of_factor_zero_are_not_read(value):
    torch.manual_seed(0)
    matrix, factors = torch.randn(5, 7, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    expected = factors[[1, 3]] @ matrix[[1, 3]]
    factors[[0, 2, 4]] = 0
    matrix[[0, 4]] = value
    formed = [Rows(matrix, lambda total: [(None, total)])]
    ((_, found),) = Cuda().weighted_sums(formed, factors)
    assert formed == []
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=0)
    ((_, found),) = Cuda().weighted_sums([Rows(matrix * value, lambda total: [(None, total)])], factors * 0)
    assert found.abs().max() == 0


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [5, 16])
def test_rows_of_a_standardised_convolution_are_its_filters(kernel, channels):
    """One sum of them, pulled back, is the sum of the gradients; norms come from inner products."""
    layer, x, g, expected = case(lambda: WSConv2d(channels, 6, kernel, padding=kernel // 2), (channels, 6, 6), 2)
    rule = RULES[WSConv2d]
    factors = torch.rand(4, dtype=torch.float64)
    with torch.no_grad():
        _, saved = rule.forward(layer, x)
        squares, rows, others = rule.formed(layer, saved, g, 4)
        found = dict(Cuda().weighted_sums([rows, *Cuda().packed(others, 4)], factors))
    truth = sum(
        gradients.flatten(1).square().sum(1)
        for p, gradients in zip(layer.parameters(), expected, strict=True)
        if p is not layer.bias
    )
    assert (squares / truth - 1).abs().max() < EXACT
    for p, gradients in zip(layer.parameters(), expected, strict=True):
        total = torch.einsum("n,n...->...", factors, gradients)
        assert (found[p] - total).norm() < EXACT * total.norm()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("channels", [17, 64, 512])
def test_norms_that_are_differences_stay_above_what_a_sample_adds(channels, spread):
    """Gradients of filters that are nearly constant: next to nothing is left of them. Without ROUNDING some fall short."""
    for seed in range(8):
        torch.manual_seed(seed)
        layer, rule = WSConv2d(channels, 4, 1), RULES[WSConv2d]
        x, g = torch.zeros(1, channels, 1, 2), torch.randn(1, 4, 1, 1) * torch.tensor([1.0, -1])  # no gradient of the bias
        x[..., 0] = 1 + spread * torch.randn(1, channels, 1)
        with torch.no_grad():
            _, saved = rule.forward(layer, x)
            squares, rows, _ = rule.formed(layer, saved, g, 1)
            added = dict(Cuda().weighted_sums([rows], torch.ones(1))).values()
        assert sum(total.double().square().sum() for total in added) < squares.double() * (1 + SLACK * 2**-24) ** 2
