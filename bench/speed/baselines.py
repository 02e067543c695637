"""What the fast engine is compared with: the other ways to clipped gradient sums, of torch, Opacus, FastDP and opake."""

import importlib.util

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleHooksFastGradientClipping
from torch import nn
from torch.nn.functional import cross_entropy

from bench.dp.gradients import ENGINES, NotPrivate, OpacusHooks
from bench.dp.graph import Captured
from bench.dp.optimizer import Optimizer, sample_losses
from bench.speed.book_keeping import BookKeeping
from bench.training.device import set_deterministic


class OpacusFunctorch(OpacusHooks):
    """Opacus' per-sample gradients by functorch in every layer."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        self.hooks = GradSampleHooks(network, loss_reduction="sum", force_functorch=True)


class OpacusGhost:
    """Opacus' ghost clipping: norms in a first backward pass, the weighted loss in a second. One view a sample."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        clip_norm = optimizer.max_grad_norm
        self.hooks = GradSampleHooksFastGradientClipping(network, loss_reduction="sum", max_grad_norm=clip_norm)

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        losses = sample_losses(self.network, images.requires_grad_(), labels, mask)
        losses.sum().backward(retain_graph=True)
        factors = self.hooks.get_clipping_coef()
        for p in self.optimizer.params:
            p.grad = None
        self.hooks.disable_hooks()
        (factors * losses).sum().backward()
        self.hooks.enable_hooks()
        for p in self.optimizer.params:
            p.summed_grad += p.grad
            p.grad = p.grad_sample = None
        return losses.sum().detach()


class Vmap:
    """torch.func: vmap of grad over the samples."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        self.gradients = torch.func.vmap(torch.func.grad_and_value(self.loss), in_dims=(None, 0, 0))

    def loss(self, parameters: dict, images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Of one sample: images (K, C, S, S)."""
        return cross_entropy(torch.func.functional_call(self.network, parameters, (images,)), label.expand(len(images)))

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        parameters = dict(self.network.named_parameters())
        found, losses = self.gradients({name: p.detach() for name, p in parameters.items()}, images, labels)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in found.values()]).norm(dim=0)
        factors = (self.optimizer.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        for name, p in parameters.items():
            p.summed_grad += (factors @ found[name].flatten(1)).view_as(p)
        return losses.sum().detach()


class Opake(Vmap):
    """opake 0.16 (PyPI): vmap of grad and its own clipping, by C / norm without Opacus' 1e-6."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        from opake.dpsgd.clipping import clipped_grad

        self.network, self.optimizer = network, optimizer
        self.clipped, self.state = clipped_grad(
            self.loss, clipping_norm=optimizer.max_grad_norm, batch_argnums=(1, 2), return_aux=True
        )

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        parameters = dict(self.network.named_parameters())
        detached = {name: p.detach() for name, p in parameters.items()}
        (sums, told), self.state = self.clipped(detached, images, labels, state=self.state)
        for name, p in parameters.items():
            p.summed_grad += sums.pytree[name]
        return told.loss_values.sum().detach()


class Deterministic:
    """The fast engine with deterministic kernels where there are any: what it costs that a GPU's numbers repeat."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.fast = ENGINES["fast"](network, optimizer)

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        set_deterministic(True, images.device)
        try:
            return self.fast.accumulate(images, labels, mask)
        finally:
            set_deterministic(False, images.device)


class FromGraph:
    """The fast engine from a CUDA graph; RuntimeError where none can be captured."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.captured = Captured(ENGINES["fast"](network, optimizer))

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        loss = self.captured.accumulate(images, labels, mask)
        if not self.captured.works:
            raise RuntimeError("no CUDA graph could be captured")
        return loss


TIMED = {
    "not-private": NotPrivate,
    "fast": ENGINES["fast"],
    "fast-graph": FromGraph,
    "fast-deterministic": Deterministic,
    "opacus-hooks": ENGINES["opacus"],
    "opacus-functorch": OpacusFunctorch,
    "opacus-ghost": OpacusGhost,
    "book-keeping": BookKeeping,
    "vmap": Vmap,
}
if importlib.util.find_spec("opake"):  # not pinned: ten packages more, for one row (NOTES.md says how)
    TIMED["opake"] = Opake
