"""The test that a network must pass before it may train privately."""

import copy

import torch
from torch import nn

from bench import BenchError

SAMPLES = 4


def admit(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raises BenchError unless, in training mode, each sample's output depends on that sample alone and on no buffer.

    Clipping bounds one sample's influence only then. Tested on the built network in float64 with images of `shape`
    (C, S, S): the derivative of a sample's output by every other sample's pixels is exactly zero, by its own it is not,
    and a forward pass changes no buffer (running statistics would carry samples into later steps).
    """
    network = copy.deepcopy(network).double().train()
    buffers = [buffer.clone() for buffer in network.buffers()]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    output = network(images)
    weights = torch.randn(output.shape[1:], generator=generator, dtype=torch.float64)
    for sample in range(SAMPLES):
        (influence,) = torch.autograd.grad((output[sample] * weights).sum(), images, retain_graph=True)
        moved = influence.flatten(1).abs().amax(1) > 0  # (SAMPLES,)
        others = [other for other in range(SAMPLES) if other != sample and moved[other]]
        if others:
            raise BenchError(
                f"not admitted to private training: the output of sample {sample} depends on sample {others[0]} "
                "(a layer mixes the samples of a batch); use a norm that works within a sample, or epsilon .inf"
            )
        if not moved[sample]:
            raise BenchError(f"not admitted to private training: the output of sample {sample} does not depend on it")
    if any(not torch.equal(before, after) for before, after in zip(buffers, network.buffers(), strict=True)):
        raise BenchError("not admitted to private training: a forward pass changes a buffer (running statistics?)")
