"""What a private run tells of its training at every evaluation: how much was clipped, and how signal and noise compare.

Norms stay on the device until an evaluation, which waits for it anyway; a step computes nothing for this. None of these
numbers is private: like losses they are there to understand a benchmark, not to be released about people's data.
"""

import math

import numpy as np
import torch
from torch import nn

from bench.dp.optimizer import Optimizer
from bench.models.residual import ResidualBlock

QUANTILES = (0.1, 0.5, 0.9)
DIGITS = 3  # significant ones


class Measurements:
    """Gathered from `optimizer` step by step; `point` is what an evaluation adds to the curve."""

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        self.optimizer, self.stages = optimizer, stages(network)
        self.norms: list[torch.Tensor] = []  # since the last evaluation, as `Optimizer.norms`
        self.counted = 0  # samples without a finite gradient before

    def add(self) -> None:
        """After every step."""
        self.norms += self.optimizer.norms

    @property
    def since(self) -> torch.Tensor:
        """Samples without a finite gradient since the last evaluation, () int64 on the device."""
        if self.norms:
            return torch.cat(self.norms).isinf().sum()
        return torch.zeros((), dtype=torch.long, device=self.optimizer.params[0].device)

    @property
    def nonfinite(self) -> int:
        """Of the whole run."""
        return self.counted + int(self.since)

    def point(self) -> dict:
        """{} where nothing is clipped and no noise is added; forgets the norms.

        clipped: fraction of the samples since the last evaluation whose gradient's norm exceeds C
        norms: QUANTILES of those norms
        snr: for each of `stages`, the norm of the last step's clipped sum over that of its noise, sigma C sqrt(d) for d
            parameters
        """
        found = {}
        if self.norms:
            norms = torch.cat(self.norms)
            self.counted, self.norms = self.nonfinite, []
            norms = norms[norms.isfinite()].cpu().double().numpy()
            some = len(norms) > 0
            found["clipped"] = rounded(np.mean(norms > self.optimizer.max_grad_norm)) if some else None
            found["norms"] = [rounded(q) for q in np.quantile(norms, QUANTILES)] if some else None
        if self.optimizer.noise_multiplier:
            found["snr"] = self._signal_to_noise()
        return found

    def _signal_to_noise(self) -> list[float]:
        parameters = [p for group in self.stages.values() for p in group]
        signals = iter(torch.stack(torch._foreach_norm([p.summed_grad for p in parameters])).double().cpu().tolist())
        scale = self.optimizer.noise_multiplier * self.optimizer.max_grad_norm
        ratios = []
        for group in self.stages.values():
            signal = math.hypot(*(next(signals) for _ in group))
            ratios.append(rounded(signal / (scale * math.sqrt(sum(p.numel() for p in group)))))
        return ratios

    def state(self) -> dict:
        return {"norms": torch.cat(self.norms) if self.norms else None, "counted": self.counted}

    def restore(self, state: dict) -> None:
        device = self.optimizer.params[0].device
        self.norms = [] if state["norms"] is None else [state["norms"].to(device)]
        self.counted = state["counted"]


def stages(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters by part of the network: stem, '1', '2', ... and head.

    A stage ends with a top-level module that holds residual blocks, and begins behind the one before: in ResNet-9 stage 2
    has the two convolutions before its block. What stands before the first such stage is the stem, behind the last the head.
    """
    children = [(child, any(isinstance(m, ResidualBlock) for m in child.modules())) for child in network.children()]
    first, last = (f([i for i, (_, blocks) in enumerate(children) if blocks], default=-1) for f in (min, max))
    parts: dict[str, list[nn.Parameter]] = {}
    number = 1
    for i, (child, blocks) in enumerate(children):
        name = "stem" if i < first else "head" if i > last else str(number)
        number += blocks
        parts.setdefault(name, []).extend(child.parameters())
    return {name: group for name, group in parts.items() if group}


def rounded(value: float, digits: int = DIGITS) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")
