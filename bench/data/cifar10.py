"""CIFAR-10 from its official archive (Krizhevsky 2009), md5 checked."""

import pickle
import tarfile

import numpy as np
import torch

from bench import BenchError
from bench.data import archive

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool, None]:
    """50,000 training and 10,000 test images of 32 x 32, from `path` or downloaded into data/."""
    if spec["image_size"] != 32:
        raise BenchError(f"datasets: source cifar10 has images of 32 pixels, not {spec['image_size']}; set image_size: 32")
    with tarfile.open(archive.official(spec, URL, MD5)) as tar:
        train = [_batch(tar, f"data_batch_{number}") for number in range(1, 6)]
        test_images, test_labels = _batch(tar, "test_batch")
    return (
        {
            "train_images": torch.cat([images for images, _ in train]),
            "train_labels": torch.cat([labels for _, labels in train]),
            "test_images": test_images,
            "test_labels": test_labels,
        },
        True,
        None,
    )


def _batch(tar: tarfile.TarFile, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    # unpickled only after the archive's md5 matched
    batch = pickle.load(tar.extractfile(f"cifar-10-batches-py/{name}"), encoding="bytes")
    images = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
    return torch.from_numpy(images.copy()), torch.tensor(batch[b"labels"])
