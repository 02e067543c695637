"""Noise, scaling and step: Opacus' optimiser, fed with sums of clipped gradients."""

from collections.abc import Sequence

import torch
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.functional import cross_entropy

from bench.dp.sampling import noise

# Opacus' addition to a norm before C is divided by it.
TINY = 1e-6
# Factors aim at C less so many rounding errors (of the parameters' precision), so that a sample contributes at most C though
# its norm is rounded. In float32: 128 * 2^-24 = 7.6e-6. Squared norms are sums of positive terms, added in blocks: some 30
# roundings in a row, half of that in the norm; factor, product and sum add three. (Gram norms, whose terms cancel, have
# room of their own: `errors` in rules/kernels.py.)
SLACK = 128
BLOCK = 256  # entries of a gradient whose squares are added one after the other


class NonFiniteGradient(ArithmeticError):
    """The run holds inf or NaN where nothing can be left out: it has diverged and cannot go on."""


class Optimizer(DPOptimizer):
    """Opacus' optimiser fed with `p.summed_grad` directly: noise N(0, (sigma C)^2), division by the expected batch, step.

    The noise of a parameter is that of (`seed`, step, its name in `names`), whatever other parameters there are; without
    names they are counted.
    """

    clips = True  # False: an engine sums what it has, and `finish_step` looks whether the sum is finite
    norms: tuple[torch.Tensor, ...] = ()

    def __init__(self, optimizer: torch.optim.Optimizer, *, seed: int = 0, names: Sequence[str] | None = None, **more):
        super().__init__(optimizer, **more)
        self.seed, self.names = seed, names or [str(index) for index in range(len(self.params))]

    def start_step(self) -> None:
        self.norms = ()
        if any(p.summed_grad is None for p in self.params):
            for p in self.params:
                p.summed_grad = torch.zeros_like(p)
        else:
            torch._foreach_zero_([p.summed_grad for p in self.params])

    def clip_factors(self, squares: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """min(1, C / (norm + 1e-6)) of each sample, (n,), from its gradient's squared norm (n,); 0 for what is to be removed.

        Removed are samples with mask 0, which only pad a batch, and those whose squared norm is inf or NaN: these count as
        samples without a gradient, since a run that stops at them would tell that they are there. A product with 0 does not
        remove inf or NaN; the engines replace the entries. Norms, factors and their margin (SLACK) are float64.

        `self.norms` keeps the step's norms without waiting for a GPU: (n,) of each physical batch, inf where the
        gradient is not finite, NaN where a sample only pads.
        """
        dtype = self.params[0].dtype
        norms = squares.double().clamp(min=0).sqrt()  # a sum of Gram products may come out below zero
        finite = norms.isfinite()
        told = torch.where(finite, norms, torch.inf).to(dtype)
        if mask is not None:
            told = told.masked_fill(mask == 0, torch.nan)
            finite = finite & (mask != 0)
        self.norms = (*self.norms, told)
        aim = self.max_grad_norm * (1 - SLACK * torch.finfo(dtype).eps / 2)
        factors = (aim / (norms + TINY)).clamp(max=1.0)
        return torch.where(finite, factors, 0.0).to(dtype)

    def finish_step(self, step: int) -> None:
        """Noise, division, step number `step`. Clipped sums are finite; where others are not it raises NonFiniteGradient.

        Then the parameters are as before.
        """
        if not self.clips:
            norms = torch._foreach_norm([p.summed_grad for p in self.params])
            if not torch.isfinite(torch.stack(norms)).all():  # the step's only wait for a GPU
                raise NonFiniteGradient("the sum of the gradients is not finite")
        gradients, std = [p.summed_grad for p in self.params], self.noise_multiplier * self.max_grad_norm
        if std:
            drawn = [noise(self.seed, step, name, p) for p, name in zip(self.params, self.names, strict=True)]
            gradients = torch._foreach_add(gradients, drawn, alpha=std)
        gradients = torch._foreach_div(gradients, self.expected_batch_size)
        for p, gradient in zip(self.params, gradients, strict=True):
            p.grad = gradient
        self.original_optimizer.step()


def sample_losses(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of each sample, the mean over its views: images (n, K, C, S, S), labels (n,) -> (n,).

    `mask` (n,) of 0 and 1 removes the samples that only pad a physical batch: loss and gradient zero. Their images become
    zero, so that a plain gradient sum never meets what another image makes of the network.
    """
    n, views = images.shape[:2]
    if mask is not None:
        images = images.masked_fill((mask == 0).view(-1, *[1] * (images.dim() - 1)), 0)
    logits = network(images.flatten(0, 1)).to(images.dtype)  # of a bf16 pass, too
    losses = cross_entropy(logits, labels.repeat_interleave(views), reduction="none")
    losses = losses.view(n, views).mean(1)
    return losses if mask is None else losses * mask


def loss_sum(losses: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Sum of the losses (n,) of the samples that contribute: factors (n,) not 0, and the loss itself finite."""
    return losses.detach().masked_fill((factors == 0) | ~losses.isfinite(), 0).sum()


def squared_norms(gradients: torch.Tensor) -> torch.Tensor:
    """(n,) float64 of per-sample gradients (n, ...).

    On a CPU torch adds squares one after the other, eight at a time: over 5.9e5 equal entries in float32 the sum is wrong by
    5.5e-4. Blocks of BLOCK keep what is added in a row short; a GPU adds in trees.
    """
    gradients = gradients.reshape(len(gradients), -1)
    rest = gradients.shape[1] % BLOCK if gradients.device.type == "cpu" else gradients.shape[1]
    blocks = gradients[:, rest:].unflatten(1, (-1, BLOCK))
    norms = [torch.linalg.vector_norm(part, dim=-1) for part in (gradients[:, None, :rest], blocks) if part.numel()]
    return torch.cat(norms, 1).double().square().sum(1)
