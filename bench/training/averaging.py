"""Exponential moving average of the weights, as De et al. 2022 (arXiv 2204.13650) evaluate it."""

import contextlib
from collections.abc import Iterator

import torch


class Average:
    """Average of `parameters`, updated once a logical step: a <- m a + (1 - m) p, m = min(decay, (1 + t) / (10 + t)).

    t counts the updates, this one included: 1 at the first, as in jax_privacy 9e935fc and TAN (facebookresearch/tan). The
    warm-up keeps the initial weights from lingering.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float):
        self.parameters, self.decay = parameters, decay
        self.average = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, t: int) -> None:
        m = min(self.decay, (1 + t) / (10 + t))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - m)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the parameters are the average."""
        own = [p.detach().clone() for p in self.parameters]
        try:
            self._copy(self.average)
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: list[torch.Tensor]) -> None:
        for p, value in zip(self.parameters, values, strict=True):
            p.copy_(value)
