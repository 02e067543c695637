"""What a device computes in its own way, and what that costs there. Formulas ask for it here and never for the device."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

Gradients = Iterable[tuple[nn.Parameter, torch.Tensor]]


class Costs(NamedTuple):
    """In operations of a large convolution of the operands' precision. They only decide speed, and are fixed so that a
    machine's load cannot change the order of a run's sums."""

    byte: float  # moved to or from memory
    cached: float  # byte of a Gram matrix that is formed, in the cache
    product: float  # of a batched matrix product, an operation
    total: float = 1.0  # of `weight_gradient`
    full: float = 1.0  # of a convolution in the parameters' precision


@dataclass(frozen=True)
class Rows:
    """A matrix (n, P), a row a sample, and what makes (parameter, gradient) of a sum of rows (P,)."""

    matrix: torch.Tensor
    finish: Callable[[torch.Tensor], Gradients]


class Kernels(ABC):
    """A type of device. Tensors are those of `bench.dp.rules`: x (N, C, H, W), g (N, O, H', W'), N = n K."""

    cached: int  # elements of Gram matrices or patches that are formed together
    errors: int  # rounding errors of a Gram norm, 2^-24 in float32 each, that its upper bound has room for
    fuses = False  # whether it has kernels of a norm and its activation (`bench.dp.rules.fused_norm`)
    spares_passes = False  # whether passes over per-sample gradients are dear enough for longer formulas with fewer of them

    @abstractmethod
    def costs(self, dtype: torch.dtype) -> Costs:
        """Of products whose operands are `dtype`."""

    @abstractmethod
    def operands(self, dtype: torch.dtype, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(x, g) of one dtype, whose products lose nothing: `dtype`, that of the parameters, or bf16 with `product`."""

    @abstractmethod
    def product(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Batched a @ b of `operands`, (n, p, q) @ (n, q, r), accumulated and returned in the parameters' precision."""

    @abstractmethod
    def per_sample_weight(self, layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor, n: int) -> torch.Tensor:
        """Gradient of a convolution's weight per sample, (n, O, C, k, k), from `operands`."""

    def along(self, gradients: torch.Tensor, directions: Sequence[torch.Tensor]) -> torch.Tensor:
        """Inner products of per-sample gradients (n, O, C, k, k) with d directions of filters (O, C, k, k), (n, O, d)."""
        return torch.einsum("noikl,oikld->nod", gradients, torch.stack(directions, -1))

    @abstractmethod
    def weight_gradient(self, layer: nn.Conv2d, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Gradient of a convolution's weight, summed over the batch, (O, C, k, k): x of `operands`, g in full."""

    @abstractmethod
    def patches(self, layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        """What a convolution's filters see, (N, C k k, H' W'), in x's dtype."""

    @abstractmethod
    def nothing_to_remove(self, gone: torch.Tensor) -> bool:
        """Whether no sample is `gone`, bool (n,), where the device can say so without being waited for."""

    @abstractmethod
    def packed(self, gradients: dict[nn.Parameter, torch.Tensor], n: int) -> list[Rows]:
        """Per-sample gradients (n, *p.shape), which are taken out of the dictionary."""

    @abstractmethod
    def squared_norms(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) float64 of the rows of a matrix (n, P)."""

    @abstractmethod
    def weighted_sums(self, formed: list[Rows], factors: torch.Tensor) -> Gradients:
        """Of all rows whose factor is not 0, the last first, which are taken out of the list: the others may hold inf or NaN.

        May change the rows of factor 0.
        """

    def remove(self, x: torch.Tensor, factors: torch.Tensor, *, in_place: bool = False) -> torch.Tensor:
        """x (n * K, ...) with zeros for the samples of factor 0: they may hold inf or NaN, which times 0 is NaN."""
        gone = factors == 0
        if self.nothing_to_remove(gone):
            return x
        return (x.masked_fill_ if in_place else x.masked_fill)(spread(gone, x), 0)


def spread(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values (n,), of each sample of x (n * K, ...), to be combined with x: (n * K, 1, ...)."""
    return values[:, None].expand(-1, len(x) // len(values)).reshape(-1, *[1] * (x.dim() - 1))


def convolution_backward(
    layer: nn.Conv2d, kernel: torch.Tensor, x: torch.Tensor, g: torch.Tensor, wanted: tuple[bool, bool]
) -> tuple:
    """(gradient of x, gradient of the filters `kernel`), None where not wanted; the latter uses the filters' shape only."""
    return torch.ops.aten.convolution_backward(
        g, x, kernel.to(g.dtype), None, layer.stride, layer.padding, (1, 1), False, (0, 0), 1, (*wanted, False)
    )[:2]
