"""What the fast engine must know of a layer type, and the weighing that every rule's sums share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

Saved = tuple[torch.Tensor, ...]
Gradients = Iterable[tuple[nn.Parameter, torch.Tensor]]


class Rule(ABC):
    """What the fast engine must know of a layer type. Without Gram norms, per-sample gradients are always formed."""

    @abstractmethod
    def forward(self, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        """(output, tensors that the other methods get as `saved`)."""

    @abstractmethod
    def input_gradient(self, layer: nn.Module, saved: Saved, g: torch.Tensor) -> torch.Tensor:
        """Gradient of x, shaped like x."""

    @abstractmethod
    def per_sample(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> Gradients:
        """(parameter, (n, *parameter.shape)) of each of the layer's parameters."""

    def gram_is_cheaper(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> bool:
        return False


class GramRule(Rule):
    """A layer whose norms also come from Gram matrices, without its per-sample gradients."""

    @abstractmethod
    def gram_is_cheaper(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> bool:
        """Whether Gram norm and weighted sum together cost less than forming and weighting per-sample gradients."""

    @abstractmethod
    def squared_norms(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> torch.Tensor:
        """(n,): squared norm over all of the layer's parameters, or a little more: never less than the weighted sum has."""

    @abstractmethod
    def weighted_sum(self, layer: nn.Module, saved: Saved, g: torch.Tensor, factors: torch.Tensor) -> Gradients:
        """(parameter, sum_i factors_i g_i) of each of the layer's parameters, over the samples whose factor is not 0."""


def weigh(g: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """g (n * K, ...) times its sample's factor (n,), zero where that is 0."""
    return remove(g * _spread(factors, g), factors, in_place=True)


def remove(x: torch.Tensor, factors: torch.Tensor, *, in_place: bool = False) -> torch.Tensor:
    """x (n * K, ...) with zeros for the samples of factor 0: they may hold inf or NaN, which times 0 is NaN."""
    gone = factors == 0
    if gone.device.type == "cpu" and not gone.any():  # a GPU would have to be waited for
        return x
    return (x.masked_fill_ if in_place else x.masked_fill)(_spread(gone, x), 0)


def _spread(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values (n,), of each sample of x (n * K, ...), to be combined with x: (n * K, 1, ...)."""
    return values.repeat_interleave(len(x) // len(values)).view(-1, *[1] * (x.dim() - 1))
