"""Noise, scaling and step: Opacus' optimiser, fed with sums of clipped gradients."""

from collections.abc import Sequence

import torch
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.functional import cross_entropy

from bench.dp.sampling import noise


class NonFiniteGradient(ArithmeticError):
    """A sample's gradient holds inf or NaN: its clipped value is undefined and the run cannot go on."""


class Optimizer(DPOptimizer):
    """Opacus' optimiser fed with `p.summed_grad` directly: noise N(0, (sigma C)^2), division by the expected batch, step.

    The noise of a parameter is that of (`seed`, step, its name in `names`), whatever other parameters there are; without
    names they are counted.
    """

    accumulated_iterations = 1  # the sums cover the whole logical batch

    def __init__(self, optimizer: torch.optim.Optimizer, *, seed: int = 0, names: Sequence[str] | None = None, **more):
        super().__init__(optimizer, **more)
        self.seed, self.names = seed, names or [str(index) for index in range(len(self.params))]

    def start_step(self) -> None:
        for p in self.params:
            p.summed_grad = torch.zeros_like(p)

    def finish_step(self, step: int) -> None:
        """Takes step number `step`; raises NonFiniteGradient, and leaves the parameters alone, if a sum is not finite."""
        norms = torch._foreach_norm([p.summed_grad for p in self.params])
        if not torch.isfinite(torch.stack(norms)).all():  # the step's only wait for a GPU
            raise NonFiniteGradient("the sum of the clipped gradients is not finite")
        self._add_noise(step)
        self.scale_grad()
        self.original_optimizer.step()

    def _add_noise(self, step: int) -> None:
        std = self.noise_multiplier * self.max_grad_norm
        for p, name in zip(self.params, self.names, strict=True):
            p.grad = torch.add(p.summed_grad, noise(self.seed, step, name, p), alpha=std) if std else p.summed_grad.clone()


def sample_losses(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of each sample, the mean over its views: images (n, K, C, S, S), labels (n,) -> (n,).

    `mask` (n,) of 0 and 1 removes the samples that only pad a physical batch: loss and gradient zero.
    """
    n, views = images.shape[:2]
    logits = network(images.flatten(0, 1)).to(images.dtype)  # of a bf16 pass, too
    losses = cross_entropy(logits, labels.repeat_interleave(views), reduction="none")
    losses = losses.view(n, views).mean(1)
    return losses if mask is None else losses * mask
