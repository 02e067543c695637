"""Normalisation layers by kind, one signature for all: (channels, norm) -> module."""

from torch import nn

from bench.names import NORMS, provided
from bench.plan.spec import Norm


def group(channels: int, norm: Norm) -> nn.Module:
    """GroupNorm with min(groups, channels) groups, as the authors' networks have it (Wu & He 2018, section 3)."""
    return nn.GroupNorm(min(norm.groups, channels), channels, affine=norm.affine)


def instance(channels: int, norm: Norm) -> nn.Module:
    """One group a channel: statistics of one image's channel, never of the batch."""
    return nn.GroupNorm(channels, channels, affine=norm.affine)


def batch(channels: int, norm: Norm) -> nn.Module:
    """BatchNorm: statistics over the batch, so it is refused at finite epsilon."""
    return nn.BatchNorm2d(channels, affine=norm.affine)


def none(channels: int, norm: Norm) -> nn.Module:
    return nn.Identity()


def make_norm(channels: int, norm: Norm) -> nn.Module:
    return provided(NORMS[norm.kind])(channels, norm)
