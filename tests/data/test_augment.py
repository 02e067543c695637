"""Views against numpy's padding, and independence of the split."""

import numpy as np
import pytest
import torch

from bench.data import augment
from bench.dp.sampling import stream


@pytest.mark.parametrize("padding", ["symmetric", "reflect"])
def test_a_view_is_a_crop_of_the_padded_image(padding):
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    indices = torch.tensor([4, 0, 0])
    draws = augment.draw(3, 50, stream(0, "augmentation"))
    views = augment.apply(images, indices, draws, padding)
    assert views.shape == (3, 50, 3, 8, 8)
    assert views.dtype == torch.uint8
    pad = augment.SHIFT
    for i, index in enumerate(indices):
        padded = np.pad(images[index].numpy(), [(0, 0), (pad, pad), (pad, pad)], mode=padding)
        for view, (row, column, flip) in zip(views[i], draws[i].tolist(), strict=True):
            crop = padded[:, pad + row : pad + row + 8, pad + column : pad + column + 8]
            assert (view.numpy() == (crop[:, :, ::-1] if flip else crop)).all()


def test_every_shift_and_flip_occurs_equally_often():
    draws = augment.draw(1000, 90, stream(1, "augmentation"))
    for column, values in ((0, 9), (1, 9), (2, 2)):
        counts = torch.bincount(draws[..., column].flatten() - draws[..., column].min(), minlength=values)
        expected = draws[..., 0].numel() / values
        # six standard deviations of a binomial count
        assert ((counts - expected).abs() < 6 * expected**0.5).all()


def test_splitting_a_batch_changes_no_view():
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    indices, draws = torch.arange(6), augment.draw(6, 2, stream(0, "augmentation"))
    whole = augment.apply(images, indices, draws, "symmetric")
    parts = [augment.apply(images, i, d, "symmetric") for i, d in zip(indices.split(4), draws.split(4), strict=True)]
    assert torch.equal(whole, torch.cat(parts))
