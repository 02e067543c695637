"""What the fast engine must know of a layer type."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from bench.dp.rules.kernels import Gradients, Rows

Saved = tuple[torch.Tensor, ...]


class Rule(ABC):
    """What the fast engine must know of a layer type. Without Gram norms, per-sample gradients are always formed."""

    @abstractmethod
    def forward(self, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, Saved]:
        """(output, tensors that the other methods get as `saved`)."""

    @abstractmethod
    def input_gradient(self, layer: nn.Module, saved: Saved, g: torch.Tensor) -> torch.Tensor:
        """Gradient of x, shaped like x."""

    def backward(
        self, layer: nn.Module, saved: Saved, g: torch.Tensor, wanted: bool
    ) -> tuple[torch.Tensor | None, Saved, torch.Tensor]:
        """(gradient of x where `wanted`, and what the methods below get as saved and g)."""
        return self.input_gradient(layer, saved, g) if wanted else None, saved, g

    def exact(self, layer: nn.Module, saved: Saved, g: torch.Tensor) -> tuple[Saved, torch.Tensor]:
        """(saved, g) as the methods below take them: in the precision of the parameters, or losing nothing against it.

        Under autocast a sample's gradient is what float32 arithmetic makes of its bf16 activations and output gradients:
        norm and sum are of the very same numbers, so that clipping is as exact as in float32.
        """
        dtype = precision(layer)
        return tuple(tensor.to(dtype) for tensor in saved), g.to(dtype)

    @abstractmethod
    def per_sample(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> Gradients:
        """(parameter, (n, *parameter.shape)) of each of the layer's parameters."""

    def gram_is_cheaper(self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int) -> bool:
        return False

    def formed(
        self, layer: nn.Module, saved: Saved, g: torch.Tensor, n: int
    ) -> tuple[torch.Tensor, Rows, dict[nn.Parameter, torch.Tensor]] | None:
        """(squared norms (n,), rows, per-sample gradients) where rows other than gradients take fewer passes over memory.

        The norms are over the parameters that the rows are of, never less than the weighted sum has; the gradients are of the
        others. None: there are no such rows.
        """
        return None


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


def precision(layer: nn.Module) -> torch.dtype:
    """Of the layer's own parameters."""
    return next(layer.parameters(recurse=False)).dtype
