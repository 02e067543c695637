import pytest
import torch
from torch import nn

from bench import BenchError, models
from bench.dp.admission import admit
from bench.layers import Scalar
from bench.plan import resolve
from tests.factory import SMALL_ARCHS


@pytest.mark.parametrize("arch", ["resnet9-w8", "wrn10-1", "resnet18-w8"])
def test_every_variant_but_batch_norm_is_admitted(shipped, arch):
    shipped["archs"] |= SMALL_ARCHS
    for variant in shipped["variants"]:
        model = resolve.model_of(shipped, arch, variant)
        network = models.build(model, 3, 10)
        if model.mixes_samples:
            with pytest.raises(BenchError, match="depends on sample"):
                admit(network, (3, 16, 16))
        else:
            admit(network, (3, 16, 16))


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
