"""Data sets of the user's code: `source: "package.module:read"`, with read(spec) -> (tensors, official)."""

import torch

from bench import BenchError, plugins

TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool, None]:
    """What the user's function makes of the data set's keys, checked: images (N, C, S, S) uint8, labels (N,) int64."""
    reference = spec["source"]
    found = plugins.call(reference, plugins.load(reference), dict(spec))
    if not (isinstance(found, tuple) and len(found) in (2, 3) and isinstance(found[0], dict)):
        raise BenchError(f"{reference}: returns {type(found).__name__}, and a pair is expected, (tensors, official)")
    tensors = found[0]
    if set(tensors) != set(TENSORS):
        raise BenchError(
            f"{reference}: returns the tensors {sorted(map(str, tensors))}, and {', '.join(TENSORS)} are expected"
        )
    for split in ("train", "test"):
        if problem := _problem(tensors[f"{split}_images"], tensors[f"{split}_labels"], spec):
            raise BenchError(f"{reference}: {split}_{problem}")
    known = int(tensors["train_labels"].max())
    if int(tensors["test_labels"].max()) > known:
        raise BenchError(f"{reference}: test_labels has classes that no training image has; the last of these is {known}")
    return {name: tensors[name].contiguous() for name in TENSORS}, bool(found[1]), None


def _problem(images: torch.Tensor, labels: torch.Tensor, spec: dict) -> str | None:
    shape = (len(spec["mean"]), spec["image_size"], spec["image_size"])
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8 or images.shape[1:] != shape or not len(images):
        return f"images: {_kind(images)}, and uint8 of shape (N, {', '.join(map(str, shape))}) is expected"
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or labels.shape != (len(images),):
        return f"labels: {_kind(labels)}, and int64 of shape ({len(images)},) is expected, a label an image"
    if int(labels.min()) < 0:
        return f"labels: {int(labels.min())} among them, and classes count from 0"
    return None


def _kind(value) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
