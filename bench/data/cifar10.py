"""CIFAR-10 from its official archive (Krizhevsky 2009), md5 checked."""

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pooch
import torch

from bench import BenchError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool]:
    """50,000 training and 10,000 test images of 32 x 32, from `path` or downloaded into data/."""
    if spec["image_size"] != 32:
        raise BenchError(f"datasets: source cifar10 has images of 32 pixels, not {spec['image_size']}; set image_size: 32")
    archive = Path(spec["path"]) if "path" in spec else _download()
    if not archive.is_file():
        raise BenchError(f"{archive}: no such archive; it should be cifar-10-python.tar.gz (see datasets in config.yaml)")
    found = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    if found != MD5:
        raise BenchError(
            f"{archive}: md5 {found}, the official archive has {MD5}: truncated or another file; delete it and run "
            "again, or read other images as source: image_folder"
        )
    with tarfile.open(archive) as tar:
        train = [_batch(tar, f"data_batch_{number}") for number in range(1, 6)]
        test_images, test_labels = _batch(tar, "test_batch")
    return {
        "train_images": torch.cat([images for images, _ in train]),
        "train_labels": torch.cat([labels for _, labels in train]),
        "test_images": test_images,
        "test_labels": test_labels,
    }, True


def _download() -> Path:
    try:
        return Path(pooch.retrieve(URL, known_hash=f"md5:{MD5}", fname=Path(URL).name, path="data", progressbar=True))
    except Exception as error:  # pooch passes on whatever the network library raised
        raise BenchError(
            f"{URL}: cannot be downloaded ({type(error).__name__}); fetch it by other means and put into "
            "config.local.yaml: datasets: {cifar10: {path: /where/it/is/cifar-10-python.tar.gz}}"
        ) from None


def _batch(tar: tarfile.TarFile, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    # unpickled only after the archive's md5 matched
    batch = pickle.load(tar.extractfile(f"cifar-10-batches-py/{name}"), encoding="bytes")
    images = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
    return torch.from_numpy(images.copy()), torch.tensor(batch[b"labels"])
