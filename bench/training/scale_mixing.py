"""Scale mixing: how differently scaled the two summands of a residual block are.

Klause et al. 2022 (arXiv 2203.00324v1) name the effect and show histograms; a scalar was never published. Ours is the
standard deviation over all elements of the tensors that enter and leave the sum.
"""

import torch
from torch import nn

from bench.models.residual import ResidualBlock


@torch.no_grad()
def measure(network: nn.Module, images: torch.Tensor) -> list[dict]:
    """One row a residual block for normalised images (B, C, S, S): std of `skip`, `branch` and `sum`, in network order."""
    seen: dict[str, dict] = {}
    handles = []
    for name, block in network.named_modules():
        if isinstance(block, ResidualBlock):
            seen[name] = {"block": name}
            for site in ("skip", "branch", "sum"):
                layer = getattr(block, f"at_{site}")
                handles.append(layer.register_forward_hook(_keep_std(seen[name], site)))
    was_training = network.training
    try:
        network.eval()(images)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return list(seen.values())


def _keep_std(row: dict, site: str):
    def hook(module, inputs, output):
        row[site] = output.double().std().item()

    return hook
