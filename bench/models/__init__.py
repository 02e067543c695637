"""Networks: a `Model` of the plan enters, a module with named sites leaves; one file a family.

It imports names, plan and layers.
"""

import torch
from torch import nn

from bench.layers import Mish
from bench.models.residual import ResidualBlock
from bench.names import provided
from bench.plan.families import FAMILIES
from bench.plan.spec import SITES, Model

ACTIVATIONS = {"mish": Mish, "relu": nn.ReLU}


def build(model: Model, channels: int, classes: int, generator: torch.Generator | None = None) -> nn.Module:
    """The network of `model`, its weights drawn from `generator` as its family initialises them, in parameter order."""
    network = provided(FAMILIES[model.family].network)(model, ACTIVATIONS[model.activation], channels, classes)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                network.initialise(layer, generator)
    return network


def sites(network: nn.Module) -> list[tuple[str, int, str, nn.Module]]:
    """(block, its number from 1, site, layer) of every filled site."""
    blocks = [(name, module) for name, module in network.named_modules() if isinstance(module, ResidualBlock)]
    return [
        (name, number, site, getattr(block, f"at_{site}"))
        for number, (name, block) in enumerate(blocks, start=1)
        for site in SITES
        if not isinstance(getattr(block, f"at_{site}"), nn.Identity)
    ]
