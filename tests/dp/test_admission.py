import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bench import BenchError, models
from bench.dp import rules
from bench.dp.admission import admit
from bench.dp.gradients import ENGINES
from bench.layers import Scalar, WSConv2d
from bench.plan import resolve
from tests.factory import ONE_A_FAMILY, SMALL_ARCHS


@pytest.mark.parametrize("arch", ONE_A_FAMILY)
def test_every_variant_but_batch_norm_is_admitted(shipped, arch):
    shipped["archs"] |= SMALL_ARCHS
    for variant in shipped["variants"]:
        model = resolve.model_of(shipped, arch, variant)
        network = models.build(model, 3, 10)
        if model.mixes_samples:
            with pytest.raises(BenchError, match="depends on sample"):
                admit(network, (3, 16, 16))
        else:
            assert admit(network, (3, 16, 16), ENGINES["fast"]) < 1e-13


class Centred(nn.Module):
    """Mixes samples without being a batch norm."""

    def forward(self, x):
        return x - 0.01 * x.mean(0, keepdim=True)


class Counting(nn.Module):
    """Carries samples into later steps without mixing them now."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean += x.detach().mean()
        return x


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Centred(), "depends on sample"),
        (Counting(), "changes a buffer"),
        (nn.Threshold(1e9, 0.0), "does not depend on it"),
    ],
)
def test_refusals(layer, expected):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.Flatten(), nn.Linear(4 * 14 * 14, 10))
    with pytest.raises(BenchError, match=expected):
        admit(network, (3, 16, 16))


def test_the_network_itself_is_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Scalar(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10)).eval()
    before = [p.clone() for p in network.parameters()]
    admit(network, (3, 16, 16))
    assert not network.training
    assert all(p.dtype == torch.float32 and torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


class Tied(nn.Module):
    """Two layers, one parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def frozen(layer):
    layer.weight.requires_grad_(False)
    return layer


class Outside(nn.Module):
    """Uses the parameter of its layer once more, behind the layer's back."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) * self.conv.weight.square().sum()


@pytest.mark.parametrize(
    ("layer", "channels", "expected"),
    [
        (Tied(), 3, r"0\.first\.weight and 0\.second\.weight are one parameter of two layers"),
        (nn.Conv2d(3, 4, 3, dilation=2, padding=2), 4, r"layer 0: dilation=\(2, 2\): .* use dilation=1"),
        (nn.Conv2d(3, 6, 3, groups=3, padding=1), 6, "layer 0: groups=3: .* use groups=1"),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), 4, "of mode 'reflect'"),
        (nn.Conv2d(3, 4, 3, padding="same"), 4, "padding 'same'"),
        (nn.Conv2d(3, 4, (3, 5), padding=(1, 2)), 4, r"kernel_size=\(3, 5\): equal in both directions"),
        (nn.Conv2d(3, 4, 3, padding=(1, 1), stride=(1, 2)), 4, r"stride=\(1, 2\): equal in both directions"),
        (frozen(nn.Conv2d(3, 4, 3, padding=1)), 4, "layer 0: its weight is frozen"),
        (nn.ConvTranspose2d(3, 4, 3, padding=1), 4, "no rule for ConvTranspose2d"),
        (nn.PReLU(), 3, "no rule for PReLU"),
        (Outside(), 4, "the engine's clipped gradient sum is wrong by"),
    ],
)
def test_what_the_engine_does_not_do_is_refused_with_the_layers_name(layer, channels, expected):
    network = nn.Sequential(layer, nn.Mish(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, 10))
    with pytest.raises(BenchError, match=f"not admitted to private training: .*{expected}"):
        admit(network, (3, 16, 16), ENGINES["fast"])


def test_a_wrong_rule_is_refused(monkeypatch):
    """Dilation as it was once: a rule that takes the gradient of another convolution."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 256, 10))
    admit(network, (3, 16, 16), ENGINES["fast"])
    rule = type(rules.RULES[nn.Linear])
    right = rule.weighted_sum
    monkeypatch.setattr(rule, "gram_is_cheaper", lambda *_: True)
    monkeypatch.setattr(rule, "weighted_sum", lambda *given: [(p, total * 1.001) for p, total in right(*given)])
    with pytest.raises(BenchError, match=r"wrong by .*e-04 of its length"):
        admit(network, (3, 16, 16), ENGINES["fast"])


@st.composite
def networks(draw):
    """Layers that have rules, in any order and size, with one of them used twice now and then."""
    channels, size, layers = 3, draw(st.sampled_from([6, 8, 9])), []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "standardised", "norm", "scalar", "pool", "twice", "act"]))
        if kind in ("conv", "standardised"):
            kernel, out = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([2, 4, 6]))
            stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
            if size + 2 * padding < kernel:
                continue
            make = nn.Conv2d if kind == "conv" else WSConv2d
            bias = {"bias": draw(st.booleans())} if kind == "conv" else {}
            layers.append(make(channels, out, kernel, stride=stride, padding=padding, **bias))
            channels, size = out, (size + 2 * padding - kernel) // stride + 1
        elif kind == "norm":
            layers.append(nn.GroupNorm(draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0])), channels))
        elif kind == "twice":
            layer = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [layer, nn.Mish(), layer]
        elif kind == "pool" and size > 3:
            layers.append(nn.MaxPool2d(2))
            size //= 2
        else:
            layers.append(Scalar() if kind == "scalar" else nn.Mish())
    layers += [nn.Flatten(), nn.Linear(channels * size**2, 10, bias=draw(st.booleans()))]
    return nn.Sequential(*layers)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks(), st.sampled_from(sorted(ENGINES)))
def test_any_network_of_layers_with_rules_is_exact(network, engine):
    """Whatever is admitted is exact to rounding: clipped sums against autograd in float64."""
    size = next(n for n in (6, 8, 9) if _fits(network, n))
    assert admit(network, (3, size, size), ENGINES[engine]) < 1e-10


def _fits(network, size):
    try:
        network(torch.zeros(1, 3, size, size))
    except RuntimeError:
        return False
    return True
