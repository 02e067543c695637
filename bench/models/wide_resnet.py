"""Wide ResNet as De et al. 2022 train it: google-deepmind/jax_privacy, image_classification/models/cifar.py."""

from collections import OrderedDict

import torch
from torch import nn

from bench.layers import WSConv2d
from bench.models.initial import truncated_normal
from bench.models.norms import make_norm
from bench.models.residual import ResidualBlock
from bench.plan.spec import Model

ORDERS = {"relu-norm": ("act", "norm"), "norm-relu": ("norm", "act")}


class Preactivation(nn.Sequential):
    """Activation and norm of what enters a convolution, in the order of `order`."""

    def __init__(self, order: str, channels: int, model: Model, activation: type[nn.Module]):
        layers = {"act": activation(), "norm": make_norm(channels, model.norm)}
        super().__init__(OrderedDict((name, layers[name]) for name in ORDERS[order]))


class WideResNet(nn.Module):
    """(B, channels, S, S) images -> (B, classes) logits, S a multiple of 4.

    WRN-depth-width (Zagoruyko & Komodakis 2016) with De et al.'s choices: activation before norm (option `order`; the
    replication of ACSAC 2024 compares the orders, of the shortcut's convolution separately: `shortcut`), weight
    standardisation, a convolution in the shortcut of every stage's first block, biases everywhere. No norm or activation
    follows a sum or the first convolution. Before the pooling comes activation, then norm, whatever the order of the blocks,
    as in the replication (its `order2`). Without weight standardisation the convolutions are plain ones with bias, their
    weights as in TAN (facebookresearch/tan) of variance 1 / fan_in. Strided convolutions pad both sides, as in TAN; JAX's
    pad one side only.

    On 3 channels and 10 classes WRN-16-4 has 2,753,818 parameters, 2,755,610 with ScaleNorm; WRN-40-4 8,961,306, 8,966,682.
    """

    def __init__(self, model: Model, activation: type[nn.Module], channels: int, classes: int):
        super().__init__()
        depth, width = model.options["depth"], model.options["width"]
        self.conv = _conv(channels, 16, 3, 1, model)
        c = 16
        for stage in (1, 2, 3):
            blocks = []
            for i in range((depth - 4) // 6):
                blocks.append(_block(c, 2 ** (3 + stage) * width, i == 0, stage, model, activation))
                c = 2 ** (3 + stage) * width
            self.add_module(f"stage{stage}", nn.Sequential(*blocks))
        self.last = Preactivation("relu-norm", c, model, activation)
        self.head = nn.Linear(c, classes)

    @staticmethod
    def initialise(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> None:
        if isinstance(layer, WSConv2d):
            layer.reset_parameters(generator)
        else:
            truncated_normal(layer, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)  # (B, 16, S, S)
        x = self.stage1(x)  # (B, 16 width, S, S)
        x = self.stage2(x)  # (B, 32 width, S/2, S/2)
        x = self.stage3(x)  # (B, 64 width, S/4, S/4)
        x = self.last(x)
        x = x.mean((2, 3))  # (B, 64 width)
        return self.head(x)


def _conv(channels_in: int, channels: int, kernel: int, stride: int, model: Model) -> nn.Conv2d:
    layer = WSConv2d if model.options["weight_standardisation"] else nn.Conv2d
    return layer(channels_in, channels, kernel, stride=stride, padding=kernel // 2)


def _block(
    channels_in: int, channels: int, first: bool, stage: int, model: Model, activation: type[nn.Module]
) -> ResidualBlock:
    stride = 2 if first and stage > 1 else 1
    order = model.options["order"]
    branch = nn.Sequential(
        Preactivation(order, channels_in, model, activation),
        _conv(channels_in, channels, 3, stride, model),
        Preactivation(order, channels, model, activation),
        _conv(channels, channels, 3, 1, model),
    )
    skip = nn.Identity()
    if first:
        skip = nn.Sequential(
            Preactivation(model.options["shortcut"], channels_in, model, activation),
            _conv(channels_in, channels, 1, stride, model),
        )
    return ResidualBlock(
        skip, branch, nn.Identity(), channels=channels, last_norm=branch[2].norm, model=model, stage=stage
    )  # fmt: skip
