"""ResNet-18, 34 and 50 as torchvision has them and the authors use them: mrchntia/ScaleNorm b3c2465, resnet_pytorch.py."""

import torch
from torch import nn

from bench.models.initial import torch_default
from bench.models.norms import make_norm
from bench.models.residual import ResidualBlock
from bench.plan.spec import Model

Branch = tuple[nn.Sequential, nn.Module]  # and its last norm
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # of each stage


class ResNet(nn.Module):
    """(B, channels, S, S) images -> (B, classes) logits.

    He et al. 2016: a norm after each convolution, an activation after the sum; ScaleNorm stands between sum and activation.
    `width` is 64 in the standard networks. The authors' first stage never received the activation that they chose and kept
    ReLU; ours has it. Initial weights are torchvision's (He et al. 2015, by fan_out) and, of the linear layer, torch's.

    With 3 channels and 1,000 classes: 11,689,512 (18), 21,797,672 (34) and 25,557,032 (50) parameters.
    """

    def __init__(self, model: Model, activation: type[nn.Module], channels: int, classes: int):
        super().__init__()
        depth, width = model.options["depth"], model.options["width"]
        block, expansion = (_bottleneck, 4) if depth == 50 else (_basic, 1)
        if model.options["stem"] == "imagenet":
            self.conv = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.pool = nn.Identity()
        self.norm = make_norm(width, model.norm)
        self.act = activation()
        c = width
        for stage, count in enumerate(BLOCKS[depth], start=1):
            inner = width * 2 ** (stage - 1)
            blocks = []
            for i in range(count):
                stride = 2 if i == 0 and stage > 1 else 1
                branch, last_norm = block(c, inner, stride, model, activation)
                skip = nn.Identity()
                if stride != 1 or c != inner * expansion:
                    skip = nn.Sequential(*_conv_norm(c, inner * expansion, 1, stride, model))
                c = inner * expansion
                blocks.append(
                    ResidualBlock(skip, branch, activation(), channels=c, last_norm=last_norm, model=model, stage=stage)
                )
            self.add_module(f"stage{stage}", nn.Sequential(*blocks))
        self.head = nn.Linear(c, classes)

    @staticmethod
    def initialise(layer: nn.Conv2d | nn.Linear, generator: torch.Generator | None) -> None:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        else:
            torch_default(layer, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)  # (B, width, s, s), s = S/2 or S
        x = self.norm(x)
        x = self.act(x)
        x = self.pool(x)  # (B, width, t, t), t = S/4 or S
        x = self.stage1(x)  # (B, e width, t, t), e = 4 with bottlenecks, else 1
        x = self.stage2(x)  # (B, 2 e width, t/2, t/2)
        x = self.stage3(x)  # (B, 4 e width, t/4, t/4)
        x = self.stage4(x)  # (B, 8 e width, t/8, t/8)
        x = x.mean((2, 3))  # (B, 8 e width)
        return self.head(x)


def _conv_norm(channels_in: int, channels: int, kernel: int, stride: int, model: Model) -> tuple[nn.Conv2d, nn.Module]:
    conv = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return conv, make_norm(channels, model.norm)


def _basic(c: int, inner: int, stride: int, model: Model, activation: type[nn.Module]) -> Branch:
    branch = nn.Sequential(
        *_conv_norm(c, inner, 3, stride, model),
        activation(),
        *_conv_norm(inner, inner, 3, 1, model),
    )
    return branch, branch[-1]


def _bottleneck(c: int, inner: int, stride: int, model: Model, activation: type[nn.Module]) -> Branch:
    """The stride is the 3x3 convolution's."""
    branch = nn.Sequential(
        *_conv_norm(c, inner, 1, 1, model),
        activation(),
        *_conv_norm(inner, inner, 3, stride, model),
        activation(),
        *_conv_norm(inner, 4 * inner, 1, 1, model),
    )
    return branch, branch[-1]
