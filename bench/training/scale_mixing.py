"""Scale mixing: how differently scaled the two summands of a residual block are.

Klause et al. 2022 (arXiv 2203.00324v1) name the effect and show histograms; a scalar was never published. Ours is the
standard deviation over all elements of the tensors that enter and leave the sum, and how it spreads over the channels.
"""

from collections.abc import Iterable

import torch
from torch import nn

from bench.models.residual import ResidualBlock
from bench.training.measurements import rounded

SITES = ("skip", "branch", "sum")
QUARTILES = (0.25, 0.5, 0.75)


@torch.no_grad()
def measure(network: nn.Module, batches: Iterable[torch.Tensor]) -> list[dict]:
    """One row a residual block, in network order, from normalised images (B, C, S, S) in batches of any sizes.

    `skip`, `branch` and `sum`: standard deviation over all elements. `skip_channels` and so on: quartiles, over the channels,
    of the standard deviation within a channel. Six and four significant digits.
    """
    seen: dict[str, dict[str, _Moments]] = {}
    handles = []
    for name, block in network.named_modules():
        if isinstance(block, ResidualBlock):
            seen[name] = {site: _Moments() for site in SITES}
            for site, moments in seen[name].items():
                handles.append(getattr(block, f"at_{site}").register_forward_hook(moments.add))
    was_training = network.training
    try:
        network.eval()
        for images in batches:
            network(images)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return [{"block": name} | _row(sites) for name, sites in seen.items()]


def _row(sites: dict[str, "_Moments"]) -> dict:
    row = {}
    for site, moments in sites.items():
        whole, channels = moments.std()
        row[site] = rounded(whole.item(), 6)
        quartiles = torch.quantile(channels, torch.tensor(QUARTILES, dtype=channels.dtype, device=channels.device))
        row[f"{site}_channels"] = [rounded(q) for q in quartiles.cpu().tolist()]
    return row


class _Moments:
    """Count, mean (C,) and sum of squared deviations (C,) of each channel over batches, float64 (Chan et al. 1983)."""

    def __init__(self):
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        """A forward hook, of an output (B, C, H, W)."""
        values = output.double().transpose(0, 1).flatten(1)  # (C, B H W)
        count, mean = values.shape[1], values.mean(1)
        squares = (values - mean[:, None]).square().sum(1)
        total, step = self.count + count, mean - self.mean
        self.squares = self.squares + squares + step.square() * self.count * count / total
        self.mean = self.mean + step * count / total
        self.count = total

    def std(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(over all elements, within each channel (C,)), unbiased."""
        elements = self.count * len(self.mean)
        between = (self.mean - self.mean.mean()).square().sum() * self.count
        whole = (self.squares.sum() + between) / (elements - 1)
        return whole.sqrt(), (self.squares / (self.count - 1)).sqrt()
