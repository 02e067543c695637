"""The test that a network must pass before it may train privately.

Clipping bounds what one sample can do only if the network and the engine keep what the proof assumes. Nobody has to know
that: it is tested on the built network before any step, and a network that fails is refused with the name of the layer.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bench import BenchError
from bench.dp.optimizer import TINY, Optimizer

SAMPLES = 4
CLIPPED, VIEWS = 2, 2  # samples and views whose clipped sum is taken
# Sums of up to 1e6 products in float64 differ by about sqrt(1e6) * 1.1e-16, relative; a few times 1e-15 was seen.
EXACT = 1e-10
REFUSED = "not admitted to private training: "


def admit(network: nn.Module, shape: tuple[int, int, int], engine: Callable | None = None) -> float | None:
    """Raises BenchError unless clipping bounds what one sample of `shape` (C, S, S) can do to what `network` learns.

    Its layers are what the engines assume. In training mode each sample's output depends on that sample alone and on no
    buffer: in float64 the derivative of a sample's output by every other sample's pixels is exactly zero, by its own it is
    not, and a forward pass changes no buffer (running statistics would carry samples into later steps). With an `engine`, a
    class as in `gradients.ENGINES`, its clipped sum of two samples with two views each equals that of autograd, and its
    error relative to that is returned.
    """
    for name, layer in network.named_modules():
        if problem := _assumed(layer):
            raise BenchError(f"{REFUSED}layer {name or type(layer).__name__}: {problem}")
    _owners(network)
    network = copy.deepcopy(network).double().train()
    generator = torch.Generator().manual_seed(0)
    _independent(network, shape, generator)
    return None if engine is None else _exact(network, shape, generator, engine)


def _assumed(layer: nn.Module) -> str | None:
    """What an engine takes for granted about a layer, and this one does not keep."""
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1:
            return f"groups={layer.groups}: per-sample gradients are those of one group; use groups=1"
        if set(layer.dilation) != {1}:
            return f"dilation={layer.dilation}: per-sample gradients are those without dilation; use dilation=1"
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            return f"padding {layer.padding!r} of mode {layer.padding_mode!r}: a number of zeros is expected"
        for key in ("kernel_size", "stride", "padding"):
            if len(set(getattr(layer, key))) > 1:
                return f"{key}={getattr(layer, key)}: equal in both directions is expected"
    frozen = [key for key, p in layer.named_parameters(recurse=False) if not p.requires_grad]
    if frozen:
        return f"its {frozen[0]} is frozen, and gradients are taken of all parameters; make it a buffer, or train it"
    return None


def _owners(network: nn.Module) -> None:
    """A parameter of two layers: norms are added up layer by layer, and miss how the two uses of it add up."""
    seen: dict[int, str] = {}
    owned = {id(layer): name for name, layer in network.named_modules()}
    for layer in network.modules():
        for key, p in layer.named_parameters(recurse=False):
            name = f"{owned[id(layer)]}.{key}"
            other = seen.setdefault(id(p), name)
            if other != name:
                raise BenchError(f"{REFUSED}{other} and {name} are one parameter of two layers; use one layer twice instead")


def _independent(network: nn.Module, shape: tuple[int, int, int], generator: torch.Generator) -> None:
    buffers = [buffer.clone() for buffer in network.buffers()]
    images = torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    output = network(images)
    weights = torch.randn(output.shape[1:], generator=generator, dtype=torch.float64)
    for sample in range(SAMPLES):
        (influence,) = torch.autograd.grad((output[sample] * weights).sum(), images, retain_graph=True)
        moved = influence.flatten(1).abs().amax(1) > 0  # (SAMPLES,)
        others = [other for other in range(SAMPLES) if other != sample and moved[other]]
        if others:
            raise BenchError(
                f"{REFUSED}the output of sample {sample} depends on sample {others[0]} "
                "(a layer mixes the samples of a batch); use a norm that works within a sample, or epsilon .inf"
            )
        if not moved[sample]:
            raise BenchError(f"{REFUSED}the output of sample {sample} does not depend on it")
    if any(not torch.equal(before, after) for before, after in zip(buffers, network.buffers(), strict=True)):
        raise BenchError(f"{REFUSED}a forward pass changes a buffer (running statistics?)")


def _exact(network: nn.Module, shape: tuple[int, int, int], generator: torch.Generator, engine: Callable) -> float:
    """The engine's error in a clipped sum, relative to autograd's of each sample alone; BenchError from EXACT on."""
    parameters = list(network.parameters())
    for p in parameters:  # norms and gains away from 1 and 0, where mistakes hide
        p.data.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    images = torch.randn(CLIPPED, VIEWS, *shape, generator=generator, dtype=torch.float64)
    labels = torch.zeros(CLIPPED, dtype=torch.long)
    losses = [cross_entropy(network(x), y.repeat(VIEWS)) for x, y in zip(images, labels, strict=True)]  # mean over the views
    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]) for loss in losses]
    rows = torch.stack(rows)  # (CLIPPED, P): each sample alone
    norms = rows.norm(dim=1)
    clip_norm = norms.mean().item()  # one of two samples is clipped
    expected = (clip_norm / (norms + TINY)).clamp(max=1) @ rows
    optimizer = Optimizer(
        torch.optim.SGD(parameters, lr=0.0), noise_multiplier=0.0, max_grad_norm=clip_norm, expected_batch_size=1
    )
    try:
        made = engine(network, optimizer)
    except TypeError as error:  # a layer without a rule
        raise BenchError(f"{REFUSED}{error}") from None
    optimizer.start_step()
    made.accumulate(images, labels)
    found = torch.cat([p.summed_grad.flatten() for p in optimizer.params])
    error = ((found - expected).norm() / expected.norm()).item()
    if not error < EXACT:
        raise BenchError(
            f"{REFUSED}the engine's clipped gradient sum is wrong by {error:.1e} of its length, where {EXACT:g} is rounding; "
            "a rule of a layer (bench/dp/rules) does not fit this network, or a parameter is used outside its layer; "
            "machine: {engine: opacus} may do"
        )
    return error
