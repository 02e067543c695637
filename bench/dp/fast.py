"""The fast engine: exact clipped gradient sums from one forward and one backward pass.

The backward pass computes the gradients of activations only. As it reaches a layer it has the layer's input and output
gradient, from which a rule (`bench.dp.rules`) gives either the per-sample gradients of the layer's parameters, kept
until the clip factors are known, or their squared norms from Gram matrices, the two tensors being kept instead. When all
norms are in, each layer's weighted sum is one product. No layer is passed through twice.

Methods: per-layer choice of the cheaper norm from Bu et al. 2022 (mixed ghost clipping, arXiv 2205.10683), single backward
pass from Bu et al. 2023 (book-keeping, arXiv 2210.00038), Gram norms from Goodfellow 2015 (arXiv 1510.01799).
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bench.dp.optimizer import Optimizer, loss_sum, sample_losses
from bench.dp.rules import RULES, Rows, Rule
from bench.dp.rules.devices import kernels_of
from bench.dp.rules.fused_norm import FusedNormRule, fuses, steps
from bench.dp.rules.kernels import Kernels


@dataclass(frozen=True)
class Use:
    """One passage through a layer: what it saw, (n * K, ...), and the gradient of its output, likewise."""

    layer: nn.Module
    rule: Rule
    saved: tuple[torch.Tensor, ...]
    gradient: torch.Tensor

    def exact(self) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """(saved, gradient) as the rule's norms and sums take them."""
        return self.rule.exact(self.layer, self.saved, self.gradient)


class Fast:
    """Exact for every network whose parameters all belong to layers in RULES, layers used several times included."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.network, self.optimizer = network, optimizer
        self.layers = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]
        unknown = sorted({type(layer).__name__ for layer in self.layers if type(layer) not in RULES})
        if unknown:
            raise TypeError(f"no rule for {', '.join(unknown)}; add one to bench/dp/rules or use engine: opacus")

    def accumulate(self, images, labels, mask=None) -> torch.Tensor:
        """As `bench.dp.gradients.Engine`."""
        loss, sums = self.clipped(images, labels, mask)
        torch._foreach_add_([p.summed_grad for p in self.optimizer.params], sums)
        return loss

    def clipped(self, images, labels, mask=None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(loss sum, clipped sum of each of the optimiser's parameters) of what `accumulate` takes."""
        tape = _Tape(len(images), kernels_of(images))
        try:
            return self._clipped(tape, images, labels, mask)
        finally:  # whatever happened: what is kept leads through autograd's graph back to the tape, a cycle that gc misses
            tape.clear()

    def _clipped(self, tape: "_Tape", images, labels, mask) -> tuple[torch.Tensor, list[torch.Tensor]]:
        anchor = torch.zeros((), device=images.device, dtype=images.dtype, requires_grad=True)
        with _recording(self.network, self.layers, tape, anchor):
            losses = sample_losses(self.network, images, labels, mask)
        torch.autograd.grad(losses.sum(), anchor, allow_unused=True)  # every layer is visited, and gives it nothing
        with (
            float32_sums(),
            torch.no_grad(),
        ):  # the weights are in the sums' arithmetic: a graph would keep every batch until the step
            factors = self.optimizer.clip_factors(tape.squared_norms(), mask)
            sums = dict(tape.weighted_sums(factors))
        return loss_sum(losses, factors), [sums[p] for p in self.optimizer.params]


class _Tape:
    """Collects, during a backward pass, what the norms and the weighted sums of all layers need."""

    def __init__(self, n: int, kernels: Kernels):
        self.n, self.kernels = n, kernels
        self.uses: Counter[nn.Module] = Counter()  # of a layer in the forward pass
        self.norms: list[torch.Tensor] = []  # squared, (n,) each, of what is formed or comes later
        self.kept: dict[nn.Parameter, torch.Tensor] = {}  # per-sample gradients, (n, *p.shape)
        self.formed: list[Rows] = []
        self.later: list[Use] = []

    def receive(self, use: Use) -> None:
        rule = use.rule
        saved, gradient = use.exact()
        # the gradients of several uses add up before the norm: Gram matrices would need their cross terms
        once = self.uses[use.layer] == 1
        if once and rule.gram_is_cheaper(use.layer, saved, gradient, self.n):
            self.norms.append(rule.squared_norms(use.layer, saved, gradient, self.n))
            self.later.append(use)
        elif once and (formed := rule.formed(use.layer, saved, gradient, self.n)):
            norms, rows, gradients = formed
            self.norms.append(norms)
            self.formed.append(rows)
            self.kept |= gradients
        else:
            for p, gradients in rule.per_sample(use.layer, saved, gradient, self.n):
                self.kept[p] = self.kept[p] + gradients if p in self.kept else gradients

    def squared_norms(self) -> torch.Tensor:
        """(n,) over all parameters, float64."""
        kept = self.kernels.packed(self.kept, self.n)
        self.formed += kept
        return torch.stack([*self.norms, *(self.kernels.squared_norms(rows.matrix) for rows in kept)]).double().sum(0)

    def weighted_sums(self, factors: torch.Tensor) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
        """(parameter, sum_i factors_i g_i) of every parameter, over factors that are not 0; releases what it has used."""
        yield from self.kernels.weighted_sums(self.formed, factors)
        while self.later:
            use = self.later.pop()
            yield from use.rule.weighted_sum(use.layer, *use.exact(), factors)

    def clear(self) -> None:
        for kept in (self.norms, self.kept, self.formed, self.later):
            kept.clear()


@contextlib.contextmanager
def float32_sums() -> Iterator[None]:
    """Within, a GPU's products are not tf32: norms and sums are float32, whatever the passes are."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextlib.contextmanager
def _recording(network: nn.Module, layers: list[nn.Module], tape: _Tape, anchor: torch.Tensor) -> Iterator[None]:
    """Within, the layers compute as ever and report to the tape; `anchor` makes autograd visit the first of them, too.

    Where the device fuses them, norms and activations next to each other in a sequence run as one.
    """

    def forward_of(layer: nn.Module, rule: Rule):
        def forward(x: torch.Tensor) -> torch.Tensor:
            tape.uses[layer] += 1
            return _Recorded.apply(x, anchor, layer, rule, tape)

        return forward

    def forward_through(sequence: nn.Sequential):
        parts = [layer if rule is None else forward_of(layer, rule) for layer, rule in steps(sequence)]

        def forward(x: torch.Tensor) -> torch.Tensor:
            for part in parts:
                x = part(x)
            return x

        return forward

    fused = [module for module in network.modules() if isinstance(module, nn.Sequential)] if tape.kernels.fuses else []
    try:
        for layer in layers:
            alone = tape.kernels.fuses and fuses(layer)
            layer.forward = forward_of(layer, FusedNormRule(0, 0) if alone else RULES[type(layer)])
        for sequence in fused:
            sequence.forward = forward_through(sequence)
        yield
    finally:
        for module in (*layers, *fused):
            module.__dict__.pop("forward", None)


class _Recorded(torch.autograd.Function):
    """A layer whose backward pass gives the gradient of its input and hands the rest to the tape."""

    @staticmethod
    def forward(ctx, x, anchor, layer, rule, tape):
        if torch.is_autocast_enabled(x.device.type):  # what is saved is what the products see
            x = x.to(torch.get_autocast_dtype(x.device.type))
        output, saved = rule.forward(layer, x)
        ctx.layer, ctx.rule, ctx.tape = layer, rule, tape
        ctx.save_for_backward(*saved)
        return output

    @staticmethod
    def backward(ctx, gradient):
        # the gradient of the input first: the tape may need the cache for itself
        below, saved, g = ctx.rule.backward(ctx.layer, ctx.saved_tensors, gradient, ctx.needs_input_grad[0])
        with float32_sums():
            ctx.tape.receive(Use(ctx.layer, ctx.rule, saved, g))
        return below, None, None, None, None
