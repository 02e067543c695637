"""Networks: a `Model` of the plan enters, a module with named sites leaves; one builder a family, one table line each.

It imports plan and layers.
"""

import torch
from torch import nn

from bench.models.residual import ResidualBlock
from bench.models.resnet import ResNet
from bench.models.resnet9 import ResNet9
from bench.models.wide_resnet import WideResNet
from bench.plan.spec import SITES, Model

FAMILIES = {"resnet9": ResNet9, "wide_resnet": WideResNet, "resnet": ResNet}
ACTIVATIONS = {"mish": nn.Mish, "relu": nn.ReLU}


def build(model: Model, channels: int, classes: int, generator: torch.Generator | None = None) -> nn.Module:
    """The network of `model`, its weights drawn from `generator` as its family initialises them, in parameter order."""
    network = FAMILIES[model.family](model, ACTIVATIONS[model.activation], channels, classes)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                network.initialise(layer, generator)
    return network


def named_parameters(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """All parameters in the order of every draw: convolutions and linear layers, ordinary norms, extra layers.

    Variants differ in the later groups only, so the parameters that two variants share get the same noise (weight
    standardisation aside: its gains belong to the convolutions).
    """

    def group(name: str) -> int:
        owner = network.get_submodule(name.rpartition(".")[0])
        extra = any(part.startswith("at_") for part in name.split("."))
        return 2 if extra else 0 if isinstance(owner, (nn.Conv2d, nn.Linear)) else 1

    return sorted(network.named_parameters(), key=lambda item: group(item[0]))


def sites(network: nn.Module) -> list[tuple[str, int, str, nn.Module]]:
    """(block, its number from 1, site, layer) of every filled site."""
    blocks = [(name, module) for name, module in network.named_modules() if isinstance(module, ResidualBlock)]
    return [
        (name, number, site, getattr(block, f"at_{site}"))
        for number, (name, block) in enumerate(blocks, start=1)
        for site in SITES
        if not isinstance(getattr(block, f"at_{site}"), nn.Identity)
    ]
