"""Data sets: an entry of `datasets` enters; uint8 tensors leave, decoded once, cached with the digest of what was decoded.

It imports names, files, source and plugins.
"""

import dataclasses
import functools
import hashlib
import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import BenchError, files, names, plugins, source
from bench.data import plugin

CACHE = Path("data/cache")
DECODING = 2  # counts changes of what the sources make of the same files, so that no tensors of before are used
PLAIN = ("label", "path", "mean", "std")  # keys that decide no tensor of the user's code, or are in the fingerprint
# Labels that only the source which verifies the publisher's archive may use.
OFFICIAL = {"CIFAR-10": "cifar10", "ImageNette-160": "imagenette"}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images (N, C, S, S) uint8 and labels (N,) int64 of both splits; `digest` covers all four tensors.

    `official` is True when the source verified the publisher's archive.
    """

    name: str
    label: str
    official: bool
    digest: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    files: dict | None = None  # of an image folder: how many were used and ignored, as bench.data.image_folder says it

    def describe(self) -> dict:
        """What a record says about its data."""
        return {
            "name": self.name,
            "label": self.label,
            "official": self.official,
            "digest": self.digest,
            "train_size": len(self.train_labels),
            "test_size": len(self.test_labels),
            "classes": self.classes,
            "shape": list(self.train_images.shape[1:]),
        } | ({"files": self.files} if self.files else {})

    def to(self, device: torch.device) -> "Dataset":
        tensors = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return dataclasses.replace(self, **tensors)

    def normalise(self, images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """uint8 images (..., C, S, S) -> (x / 255 - mean) / std per channel."""
        mean, std = (_per_channel(values, dtype, images.device) for values in (self.mean, self.std))
        return (images.to(dtype) / 255 - mean) / std


@functools.cache
def _per_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(C, 1, 1), sent to a device once: each time it would wait for it."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


def load(name: str, spec: dict) -> Dataset:
    """The dataset `name` of the configuration, from the cache if it was decoded from the same files before, lying anywhere.

    Raises BenchError for a source that is missing, truncated or not what it says.
    """
    # all that decides the tensors
    key = [DECODING, spec["source"], spec["image_size"], len(spec["mean"]), source.fingerprint(name, spec)]
    if plugins.is_one(spec["source"]):
        key.append(sorted((option, value) for option, value in spec.items() if option not in PLAIN))
    key = json.dumps(key)
    cached = CACHE / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.pt"
    content = _cached(cached)
    if content is None:
        read = plugin.read if plugins.is_one(spec["source"]) else names.provided(names.SOURCES[spec["source"]])
        tensors, official, found = read(spec)
        content = {"tensors": tensors, "official": official, "digest": _digest(tensors), "files": found}
        try:
            files.replace(cached, lambda file: torch.save(content, file))
        except (OSError, RuntimeError) as error:  # torch words some of the system's refusals anew
            print(f"{cached}: not kept ({error}), so that the next start decodes it again", file=sys.stderr)
    channels = content["tensors"]["train_images"].shape[1]
    for statistic in ("mean", "std"):
        if len(spec[statistic]) != channels:
            raise BenchError(f"datasets.{name}.{statistic}: {len(spec[statistic])} values for images of {channels} channels")
    label = spec["label"]
    if OFFICIAL.get(label, spec["source"]) != spec["source"]:
        label = f"{label} (not the official archive)"
    return Dataset(
        name=name,
        label=label,
        official=content["official"],
        digest=content["digest"],
        classes=int(content["tensors"]["train_labels"].max()) + 1,
        mean=tuple(spec["mean"]),
        std=tuple(spec["std"]),
        files=content["files"],
        **content["tensors"],
    )


def _cached(path: Path) -> dict | None:
    """What `load` kept at `path`; None where there is nothing, or anything but that: it is then made anew from the source."""
    try:
        content = torch.load(path, weights_only=True)
        whole = content["digest"] == _digest(content["tensors"]) and {"official", "files"} <= content.keys()
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, pickle.UnpicklingError):
        return None
    return content if whole else None


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over names, shapes and bytes of the decoded tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
