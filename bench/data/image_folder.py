"""train/<class>/* and test/<class>/* image files, in a folder or in a .tar archive of one."""

import io
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from bench import BenchError, source

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool]:
    """RGB images (or grey ones where `mean` has one value) of `image_size`, others resized; classes by sorted name."""
    if "path" not in spec:
        raise BenchError("datasets: source image_folder needs a `path`; put it into config.local.yaml")
    root = Path(spec["path"])
    if not root.exists():
        raise BenchError(f"{root}: no such folder or archive; see datasets in config.yaml and config.local.yaml")
    return decode(root, spec), False


def decode(root: Path, spec: dict, *, test: str = "test", square: bool = True) -> dict[str, torch.Tensor]:
    """The tensors of both splits; `test` is the folder of the test split, wherever in `root` the two stand.

    Images of another shape than square are refused with a BenchError, or squeezed where `square` is False.
    """
    size, mode = spec["image_size"], "L" if len(spec["mean"]) == 1 else "RGB"
    splits: dict[str, list[tuple[str, str, np.ndarray]]] = {"train": [], test: []}
    for name, content in source.files(root):
        *_, split, label, file = ("", "", *PurePosixPath(name).parts)
        if split in splits and PurePosixPath(file).suffix.lower() in IMAGES:
            splits[split].append((label, file, _decode(f"{root}/{name}", content, size, mode, square)))
    for split, items in splits.items():
        if not items:
            raise BenchError(f"{root}: no images in {split}/<class>/; expected train/<class>/* and {test}/<class>/*")
        items.sort(key=lambda item: item[:2])
    classes = sorted({label for label, _, _ in splits["train"]})
    unknown = sorted({label for label, _, _ in splits[test]} - set(classes))
    if unknown:
        raise BenchError(f"{root}/{test}: class {unknown[0]} has no training images")
    tensors = {}
    for split, folder in (("train", "train"), ("test", test)):
        pixels = np.stack([image for _, _, image in splits[folder]])  # (N, S, S, C)
        tensors[f"{split}_images"] = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        tensors[f"{split}_labels"] = torch.tensor([classes.index(label) for label, _, _ in splits[folder]])
    return tensors


def _decode(name: str, content: bytes, size: int, mode: str, square: bool) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(content)).convert(mode)
    except (UnidentifiedImageError, OSError) as error:
        raise BenchError(f"{name}: not a readable image ({error}); copy the dataset again") from None
    if square and image.width != image.height:
        raise BenchError(f"{name}: {image.width} x {image.height} pixels; square images are expected")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, -1)
