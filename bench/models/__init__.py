"""Networks: a `Model` of the plan enters, a module with named sites leaves; one file a family.

It imports names, plan, layers and plugins.
"""

import torch
from torch import nn

from bench import plugins
from bench.layers import Mish
from bench.models import plugin
from bench.models.plugin import check_logits
from bench.models.residual import ResidualBlock
from bench.names import provided
from bench.plan.families import FAMILIES
from bench.plan.spec import SITES, Model

__all__ = ["ACTIVATIONS", "ResidualBlock", "build", "check_logits", "sites"]
ACTIVATIONS = {"mish": Mish, "relu": nn.ReLU}


def build(model: Model, channels: int, classes: int, generator: torch.Generator | None = None) -> nn.Module:
    """The network of `model`, its weights drawn from `generator` as its family initialises them, in parameter order.

    A network of the user's code without `initialise` keeps the weights that it was built with.
    """
    activation = ACTIVATIONS[model.activation]
    if plugins.is_one(model.family):
        network = plugin.build(model, activation, channels, classes, generator)
        if not hasattr(network, "initialise"):
            return network
    else:
        network = provided(FAMILIES[model.family].network)(model, activation, channels, classes)
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
