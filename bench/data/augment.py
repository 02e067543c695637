"""Random crops and flips, K views of an image at once, on the device where the images are."""

import numpy as np
import torch

SHIFT = 4  # pixels that a crop may reach over the edge (De et al. 2022, arXiv 2204.13650, and the common CIFAR-10 recipe)


def draw(samples: int, views: int, source: np.random.Generator) -> torch.Tensor:
    """What `apply` needs for every view of a logical batch: (samples, views, 3) int64 of row shift, column shift and flip.

    Drawn for the whole logical batch, so that a run does not depend on how the batch is split.
    """
    shifts = source.integers(-SHIFT, SHIFT, (samples, views, 2), endpoint=True)
    flips = source.integers(0, 2, (samples, views, 1))
    return torch.from_numpy(np.concatenate([shifts, flips], 2))


def apply(images: torch.Tensor, indices: torch.Tensor, draws: torch.Tensor, padding: str) -> torch.Tensor:
    """Views (n, K, C, S, S) of `images` (N, C, S, S) at `indices` (n,) by `draws` (n, K, 3).

    A view is the image shifted and possibly mirrored; what lies beyond the edge is its reflection, with the edge pixel
    (`symmetric`, De et al. 2022 as in jax_privacy) or without it (`reflect`, torchvision's).
    """
    size = images.shape[-1]
    steps = torch.arange(size, device=images.device)
    rows = _inside(steps + draws[..., 0, None], size, padding)  # (n, K, S)
    columns = torch.where(draws[..., 2, None] == 1, steps.flip(0), steps)
    columns = _inside(columns + draws[..., 1, None], size, padding)
    views = images[indices[:, None, None, None], :, rows[..., :, None], columns[..., None, :]]  # (n, K, S, S, C)
    return views.movedim(-1, 2).contiguous()


def _inside(position: torch.Tensor, size: int, padding: str) -> torch.Tensor:
    """Positions beyond 0 ... size - 1 mirrored into it."""
    if padding == "symmetric":
        position = torch.where(position < 0, -1 - position, position)
        return torch.where(position >= size, 2 * size - 1 - position, position)
    position = position.abs()
    return torch.where(position >= size, 2 * size - 2 - position, position)
