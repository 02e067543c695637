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

from bench import names
from bench.dp import fast
from bench.dp.optimizer import Optimizer, loss_sum, sample_losses, squared_norms
from bench.dp.rules import remove
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


class _Hooks(GradSampleHooks):
    """Per-sample gradients are what arithmetic in the parameters' precision makes of what the passes leave."""

    def capture_backprops_hook(self, *arguments, **more) -> None:
        with fast.float32_sums():
            super().capture_backprops_hook(*arguments, **more)

    def rearrange_grad_samples(self, *, module: nn.Module, **more) -> tuple[list[torch.Tensor], torch.Tensor]:
        activations, backprops = super().rearrange_grad_samples(module=module, **more)
        dtype = next(module.parameters(recurse=False)).dtype
        return [tensor.to(dtype) for tensor in activations], backprops.to(dtype)

    def forget(self) -> None:
        """What a pass that did not end has left: it would count in the next one."""
        for module in self._module.modules():
            for name in ("activations", "max_batch_len"):
                vars(module).pop(name, None)
        for p in self._module.parameters():
            vars(p).pop("_current_grad_sample", None)
            p._forward_counter, p.grad_sample, p.grad = 0, None, None


class OpacusHooks:
    """Opacus' per-sample gradients, formed layer by layer by hooks: slow, and the oracle of the fast engine."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        self.hooks = _Hooks(network, loss_reduction="sum")

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        try:
            return self._clipped(images, labels, mask)
        except RuntimeError:  # out of memory, say: a smaller batch comes next
            self.hooks.forget()
            raise

    def _clipped(self, images, labels, mask) -> torch.Tensor:
        # torch warns at every step when the first layer's full backward hook has no input gradient to give
        losses = sample_losses(self.network, images.requires_grad_(), labels, mask)
        losses.sum().backward()
        with fast.float32_sums(), torch.no_grad():
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


ENGINES: dict[str, Callable[[nn.Module, Optimizer], Engine]] = {
    name: names.provided(place) for name, place in names.ENGINES.items()
}
