"""Networks of the user's code: `family: "package.module:build"`, with build(model, activation, channels, classes)."""

from dataclasses import replace

import torch
from torch import nn

from bench import BenchError, plugins
from bench.models.residual import ResidualBlock
from bench.plan.families import SOURCE_DIGEST
from bench.plan.spec import Model

IMAGES = 2  # of the one forward pass that shows the shape of the output


def build(
    model: Model, activation: type[nn.Module], channels: int, classes: int, generator: torch.Generator | None
) -> nn.Module:
    """The network that the user's function makes of `model`; it must be of the sources that the plan saw.

    What torch draws within comes from `generator`, so that a run's seed decides it. BenchError in all that is wrong about it.
    """
    options = {key: value for key, value in model.options.items() if key != SOURCE_DIGEST}
    function = plugins.load(model.family, model.options[SOURCE_DIGEST])
    with torch.random.fork_rng(devices=[]):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        network = plugins.call(model.family, function, replace(model, options=options), activation, channels, classes)
    if not isinstance(network, nn.Module):
        raise BenchError(f"{model.family}: returns {type(network).__name__}, and a torch.nn.Module is expected")
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not model.mixes_samples:
            raise BenchError(
                f"{model.family}: layer {name or type(layer).__name__}: batch norm mixes samples, and the configuration "
                "names none; make norms with bench.models.norms.make_norm(channels, model.norm)"
            )
    _check_blocks(model, [layer for layer in network.modules() if isinstance(layer, ResidualBlock)])
    return network


def _check_blocks(model: Model, blocks: list[ResidualBlock]) -> None:
    """What the plan says of the residual blocks, against those that were built."""
    if model.options["stage_channels"] and not blocks:
        raise BenchError(
            f"{model.family}: has no bench.models.residual.ResidualBlock, so no sites for a variant; build one with it, or "
            "remove stage_channels and train it with variants without sites"
        )
    for site in model.sites:
        if all(isinstance(getattr(block, f"at_{site}"), nn.Identity) for block in blocks):
            raise BenchError(
                f"{model.family}: no block fills site {site} in stages {list(model.stages)}; hand `model` and the block's "
                "stage, counted from 1, to every ResidualBlock"
            )
    if "out" in model.sites and all(isinstance(block.act, nn.Identity) for block in blocks):
        raise BenchError(f"{model.family}: no activation follows the sum here, so `out` is `sum`; use sites.sum")


@torch.no_grad()
def check_logits(model: Model, network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    """BenchError unless images (N, C, S, S) of `shape` (C, S, S) give logits (N, classes); families of the suite do."""
    if not plugins.is_one(model.family):
        return
    was_training = network.training
    images = torch.zeros(IMAGES, *shape)
    output = plugins.call(model.family, network.eval(), images)
    network.train(was_training)
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != (IMAGES, classes):
        raise BenchError(
            f"{model.family}: images {tuple(images.shape)} give {found}, and logits {(IMAGES, classes)} are expected: "
            "(images, classes)"
        )
