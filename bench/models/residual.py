"""The residual block with its four named sites. Placement exists here and nowhere else."""

import torch
from torch import nn

from bench.layers import Scalar
from bench.models.norms import make_norm
from bench.plan.spec import SITES, Model


class ResidualBlock(nn.Module):
    """out(act(sum(skip(x) + branch(x)))), each site Identity unless the variant fills it.

    ScaleNorm (Klause et al. 2022, arXiv 2203.00324) is a norm at `sum`.

    Args:
        skip: the shortcut, (B, C_in, H, W) -> (B, C, H', W').
        branch: the residual branch, same shapes.
        act: activation after the sum; Identity where the network has none.
        channels: C.
        last_norm: the block's last norm layer, which a `shared` site uses a second time.
        model: names the sites and the stages that have them.
        stage: this block's stage, counted from 1.
    """

    def __init__(
        self,
        skip: nn.Module,
        branch: nn.Module,
        act: nn.Module,
        *,
        channels: int,
        last_norm: nn.Module,
        model: Model,
        stage: int,
    ):
        super().__init__()
        self.skip, self.branch, self.act = skip, branch, act
        sites = model.sites if stage in model.stages else {}
        for site in SITES:
            setattr(self, f"at_{site}", _layer(sites.get(site), channels, last_norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.at_skip(self.skip(x))
        branch = self.at_branch(self.branch(x))
        return self.at_out(self.act(self.at_sum(skip + branch)))


class Shared(nn.Module):
    """Uses `layer`, which lives elsewhere, once more. Not registered: Opacus hooks a layer once for every path to it."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = (layer,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer[0](x)

    def extra_repr(self) -> str:
        return f"the block's last norm, {self.layer[0]}"


def _layer(site, channels: int, last_norm: nn.Module) -> nn.Module:
    if site is None:
        return nn.Identity()
    if site == "shared":
        return Shared(last_norm)
    if site == "scalar":
        return Scalar()
    return make_norm(channels, site)
