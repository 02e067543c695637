"""ResNet-9 as in the authors' code: mrchntia/ScaleNorm b3c2465, image_classification/resnet9.py."""

import torch
from torch import nn

from bench.models.initial import torch_default
from bench.models.norms import make_norm
from bench.models.residual import ResidualBlock
from bench.plan.spec import Model


class ConvNormAct(nn.Sequential):
    """3x3 convolution without bias, norm, activation, and max pooling by 2 where `pool`."""

    def __init__(self, channels_in: int, channels: int, model: Model, activation: type[nn.Module], pool: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm = make_norm(channels, model.norm)
        self.act = activation()
        if pool:
            self.pool = nn.MaxPool2d(2)


class ResNet9(nn.Module):
    """(B, channels, S, S) images -> (B, classes) logits, S a multiple of 8 and at least 16.

    Both summands of a residual block are already activated and no activation follows the sum. At width 64, 3 channels and
    10 classes: 2,447,946 parameters, 2,448,714 with ScaleNorm.
    """

    def __init__(self, model: Model, activation: type[nn.Module], channels: int, classes: int):
        super().__init__()
        w = model.options["width"]
        self.conv1 = ConvNormAct(channels, w, model, activation)
        self.conv2 = ConvNormAct(w, 2 * w, model, activation, pool=True)
        self.res1 = _block(2 * w, model, activation, stage=1)
        self.conv3 = ConvNormAct(2 * w, 4 * w, model, activation, pool=True)
        self.conv4 = ConvNormAct(4 * w, 4 * w, model, activation, pool=True)
        self.res2 = _block(4 * w, model, activation, stage=2)
        self.pool = nn.AdaptiveMaxPool2d(2)
        self.head = nn.Linear(4 * 4 * w, classes)

    initialise = staticmethod(torch_default)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(x))  # (B, 2w, S/2, S/2)
        x = self.res1(x)
        x = self.conv4(self.conv3(x))  # (B, 4w, S/8, S/8)
        x = self.res2(x)
        return self.head(self.pool(x).flatten(1))


def _block(channels: int, model: Model, activation: type[nn.Module], stage: int) -> ResidualBlock:
    branch = nn.Sequential(
        ConvNormAct(channels, channels, model, activation),
        ConvNormAct(channels, channels, model, activation),
    )
    return ResidualBlock(
        nn.Identity(),
        branch,
        nn.Identity(),
        channels=channels,
        last_norm=branch[1].norm,
        model=model,
        stage=stage,
    )
