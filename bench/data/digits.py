"""The handwritten digits that scikit-learn ships (UCI, 1,797 images of 8 x 8): real data without a download."""

import torch

SPLIT_SEED = 0  # of the one fixed split into 1,437 training and 360 test images
TEST_SIZE = 360


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool, None]:
    """One grey channel, scaled to 0..255 and bilinearly enlarged to `image_size`."""
    from sklearn.datasets import load_digits  # a second of import that other datasets need not pay

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)  # (1797, 1, 8, 8)
    size = spec["image_size"]
    images = torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear").round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return (
        {
            "train_images": images[train],
            "train_labels": labels[train],
            "test_images": images[test],
            "test_labels": labels[test],
        },
        True,
        None,
    )
