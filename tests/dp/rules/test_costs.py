"""Which of the two norms a layer takes."""

import pytest
import torch
from torch import nn

from bench.dp.rules.conv import ConvRule
from bench.dp.rules.linear import LinearRule
from bench.dp.rules.weight_standardised import WSConvRule
from bench.layers import WSConv2d


def test_cost_decides():
    """Many positions and few weights: per-sample gradients. Few positions and many weights: Gram matrices."""
    early, late = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1)
    x, deep = torch.zeros(2, 3, 32, 32), torch.zeros(2, 256, 4, 4)
    assert not ConvRule().gram_is_cheaper(early, (x,), torch.zeros(2, 64, 32, 32), 2)
    assert ConvRule().gram_is_cheaper(late, (deep,), torch.zeros(2, 256, 4, 4), 2)
    # the deeper convolutions of WRN-16-4: of one view, and of 16
    standardised = WSConv2d(256, 256, 3, padding=1)
    x, g = torch.zeros(32, 256, 8, 8), torch.zeros(32, 256, 8, 8)
    assert WSConvRule().gram_is_cheaper(standardised, (x,), g, 32)
    assert not WSConvRule().gram_is_cheaper(standardised, (x,), g, 2)
    assert LinearRule().gram_is_cheaper(nn.Linear(1024, 10), (torch.zeros(2, 1024),), torch.zeros(2, 10), 2)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_decides_by_its_own_costs(dtype):
    """ResNet-9 of width 64: Gram matrices at 8 x 8 and below, not at 16 x 16."""

    def zeros(channels, size):
        return torch.zeros(2, channels, size, size, dtype=dtype)

    layers = {(64, 128, 32): False, (128, 128, 16): False, (128, 256, 16): False, (256, 256, 8): True, (256, 256, 4): True}
    for (channels_in, channels, size), gram in layers.items():
        layer, x, g = nn.Conv2d(channels_in, channels, 3, padding=1), zeros(channels_in, size), zeros(channels, size)
        assert ConvRule().gram_is_cheaper(layer, (x,), g, 2) == gram
