"""Engines: from a physical batch to the sum of its clipped per-sample gradients.

An engine adds, into `p.summed_grad` of every parameter, sum_i min(1, C / (||g_i|| + 1e-6)) g_i over the samples i of the
batch, g_i being the gradient of sample i's loss, the mean over its K views (Abadi et al. 2016, algorithm 1; De et al. 2022,
section 3.2, for the views). The 1e-6 is Opacus'. A sample whose gradient holds inf or NaN adds nothing and changes nothing
of what the others add. All engines feed the same optimiser, `bench.dp.optimizer.Optimizer`, which gives the factors.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from opacus.grad_sample import GradSampleHooks, register_grad_sampler
from torch import nn
from torch.nn.functional import unfold

from bench.dp.fast import Fast
from bench.dp.layer_rules import remove
from bench.dp.optimizer import Optimizer, loss_sum, sample_losses, squared_norms
from bench.layers import Scalar, WSConv2d


class Engine(Protocol):
    def accumulate(self, images: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Adds the clipped gradients of normalised images (n, K, C, S, S), n >= 1, with labels (n,); returns the loss sum.

        `mask` as in `sample_losses`. The losses of samples that add nothing are not in the sum.
        """


class NotPrivate:
    """Plain gradient sums for epsilon inf, where nothing is clipped: what every engine gives with C = inf.

    Samples are not told apart, so that inf or NaN in one of them makes `Optimizer.finish_step` raise NonFiniteGradient.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        optimizer.clips = False

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        loss = sample_losses(self.network, images, labels, mask).sum()
        gradients = torch.autograd.grad(loss, self.optimizer.params)
        torch._foreach_add_([p.summed_grad for p in self.optimizer.params], gradients)
        return loss.detach()


class OpacusHooks:
    """Opacus' per-sample gradients, formed layer by layer by hooks: slow, and the oracle of the fast engine."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        self.hooks = GradSampleHooks(network, loss_reduction="sum")

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        # torch warns at every step when the first layer's full backward hook has no input gradient to give
        losses = sample_losses(self.network, images.requires_grad_(), labels, mask)
        losses.sum().backward()
        with torch.no_grad():
            params = self.optimizer.params
            for p in params:  # (n * K, ...) per view -> (n, ...) per sample
                p.grad_sample = p.grad_sample.unflatten(0, images.shape[:2]).sum(1)
            factors = self.optimizer.clip_factors(torch.stack([squared_norms(p.grad_sample) for p in params]).sum(0), mask)
            for p in params:
                p.summed_grad += torch.einsum("n,n...->...", factors, remove(p.grad_sample, factors))
                p.grad_sample = p.grad = None
        return loss_sum(losses, factors)


@register_grad_sampler(Scalar)
def _scalar_grad_sample(layer: Scalar, activations: list[torch.Tensor], backprops: torch.Tensor) -> dict:
    return {layer.gain: (activations[0] * backprops).flatten(1).sum(1)}  # (n,)


@register_grad_sampler(WSConv2d)
def _wsconv_grad_sample(layer: WSConv2d, activations: list[torch.Tensor], backprops: torch.Tensor) -> dict:
    """Gradients of the filters that convolve as Opacus' for Conv2d, and autograd's way from those to the parameters."""
    patches = unfold(activations[0], layer.kernel_size, padding=layer.padding, stride=layer.stride)  # (n, I k k, T)
    filters = backprops.flatten(2) @ patches.mT  # (n, O, I k k)
    with torch.enable_grad():
        kernel = layer.kernel().flatten(1)
    weight, gain = torch.autograd.grad(kernel, (layer.weight, layer.gain), filters, is_grads_batched=True)
    return {layer.weight: weight, layer.gain: gain, layer.bias: backprops.sum((2, 3))}


ENGINES: dict[str, Callable[[nn.Module, Optimizer], Engine]] = {"fast": Fast, "opacus": OpacusHooks}
