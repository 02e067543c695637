"""Which of the two norms a layer takes."""

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
