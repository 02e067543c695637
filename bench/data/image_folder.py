"""train/<class>/* and test/<class>/* image files, in a folder or in a .tar archive of one.

Every file is used, counted as ignored, or refused by name: data that are left out in silence are other data.
"""

import sys
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from bench import BenchError, source
from bench.data import picture

# Endings of images: such a file is refused where it cannot be read; any other one is then no image.
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".heic"}
HIDDEN, OUTSIDE, NO_IMAGE = "with hidden or system names", "outside of the two splits", "no images"


def read(spec: dict) -> tuple[dict[str, torch.Tensor], bool, dict]:
    """RGB images (or grey ones where `mean` has one value) of `image_size`, others resized; classes by sorted name.

    Also what became of the files, as `decode` says it, which is printed.
    """
    if "path" not in spec:
        raise BenchError("datasets: source image_folder needs a `path`; put it into config.local.yaml")
    root = Path(spec["path"])
    if not root.exists():
        raise BenchError(f"{root}: no such folder or archive; see datasets in config.yaml and config.local.yaml")
    tensors, files = decode(root, spec)
    print(f"{root}: {told(files)}", file=sys.stderr)
    return tensors, False, files


def told(files: dict) -> str:
    """'60 training and 20 test images (3 resized); ignored: 2 no images, 'train/notes.txt' for one'."""
    notes = ", ".join(f"{number:,} {what}" for what, number in files["notes"].items())
    text = f"{files['train']:,} training and {files['test']:,} test images{f' ({notes})' if notes else ''}"
    ignored = (f"{which['files']:,} {why}, {which['first']!r} for one" for why, which in files["ignored"].items())
    return "; ignored: ".join((text, *ignored))


def decode(root: Path, spec: dict, *, test: str = "test", square: bool = True) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of both splits; `test` is the folder of the test split, and stands beside train/ at any depth of `root`.

    Also what became of all files: {train and test: number of images, ignored: {why: {files, first}}, notes: {what: number}}.
    Images of another shape than square are refused with a BenchError, or squeezed where `square` is False.
    """
    size, mode = spec["image_size"], "L" if len(spec["mean"]) == 1 else "RGB"
    # place of the splits -> split -> [(names below the split, pixels or why there are none, notes)]
    found: dict[str, dict[str, list]] = {}
    ignored: dict[str, list[str]] = {HIDDEN: [], OUTSIDE: [], NO_IMAGE: []}
    names = []
    for name, content in source.read(root, ignored[HIDDEN]):
        names.append(name)
        *folders, last = name.split("/")  # of an empty folder the last one is ''
        at = next((number for number, folder in enumerate(folders) if folder in ("train", test)), None)
        if at is not None:
            notes: Counter = Counter()
            pixels = _pixels(f"{root}/{name}", content, size, mode, square, notes) if last else None
            splits = found.setdefault("/".join(folders[:at]), {})
            splits.setdefault(folders[at], []).append(([*folders[at + 1 :], last], pixels, notes))
    place = _place(root, found, names, test)
    tensors, files, classes, notes = {}, {"train": 0, "test": 0}, [], Counter()
    for split, folder in (("train", "train"), ("test", test)):
        where = f"{root}/{place}{folder}".replace("//", "/")
        items, without = _images(where, found[place.rstrip("/")][folder], notes)
        ignored[NO_IMAGE] += without
        classes = classes or sorted({label for label, _, _ in items})
        if unknown := sorted({label for label, _, _ in items} - set(classes)):
            raise BenchError(f"{where}: class {unknown[0]} has no training images")
        pixels = np.stack([image for _, _, image in items])  # (N, S, S, C)
        tensors[f"{split}_images"] = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        tensors[f"{split}_labels"] = torch.tensor([classes.index(label) for label, _, _ in items])
        files[split] = len(items)
    if len(classes) < 2:
        raise BenchError(f"{root}/{place}train: one class only, {classes[0]}; a task has two or more")
    inside = tuple(f"{place}{folder}/" for folder in ("train", test))
    ignored[OUTSIDE] = [name for name in names if not name.startswith(inside) and not name.endswith("/")]
    files["ignored"] = {why: {"files": len(which), "first": min(which)} for why, which in ignored.items() if which}
    files["notes"] = dict(sorted((+notes).items()))
    return tensors, files


def _pixels(name: str, content: bytes, size: int, mode: str, square: bool, notes: Counter) -> np.ndarray | BenchError | None:
    """Pixels; None of a file that is no image; a refusal, which counts only where the splits turn out to be."""
    try:
        pixels = picture.decode(name, content, size, mode, square, notes)
        if pixels is None and PurePosixPath(name).suffix.lower() in IMAGES:
            raise BenchError(f"{name}: not a readable image (of no format that is read); copy the dataset again")
    except BenchError as error:
        return error
    return pixels


def _place(root: Path, found: dict[str, dict], names: list[str], test: str) -> str:
    """Where both splits stand, '' or a name with '/' at its end. BenchError unless there is one such place."""
    expected = f"expected train/<class>/* and {test}/<class>/*"
    complete = [place for place, splits in sorted(found.items()) if len(splits) == 2]
    if len(complete) > 1:
        both = " and ".join(repr(place or ".") for place in complete[:2])
        raise BenchError(f"{root}: train/ and {test}/ stand at several places, {both}; remove one or name it as `path`")
    place = f"{complete[0]}/" if complete and complete[0] else ""
    others = {folder for name in names for folder in name.split("/")[:-1] if folder not in ("train", test)}
    if complete:  # beside the splits
        others = {name.removeprefix(place).split("/")[0] for name in names if name.startswith(place)} & others
    if wrong := sorted(folder for folder in others if folder.lower() in ("train", test)):
        raise BenchError(f"{root}: folder {wrong[0]}: small letters are expected, {wrong[0].lower()}; rename it")
    if not complete:
        splits = {split for of_place in found.values() for split in of_place}
        missing = next((split for split in ("train", test) if split not in splits), test)
        raise BenchError(f"{root}: no images in {missing}/<class>/; {expected}")
    return place


def _images(where: str, items: list[tuple], total: Counter) -> tuple[list[tuple[str, str, np.ndarray]], list[str]]:
    """(class, file, pixels) of every image of a split in the order of their names, and the names of what is no image."""
    images, classes, without = [], set(), []
    for inside, pixels, notes in items:
        if isinstance(pixels, BenchError):
            raise pixels
        if len(inside) > 1:
            classes.add(inside[0])
        if pixels is None:
            without += ["/".join(inside)] * bool(inside[-1])
        elif len(inside) != 2:
            deep = "in no class" if len(inside) == 1 else "deeper than in its class"
            raise BenchError(f"{where}/{'/'.join(inside)}: an image {deep}; images stand at <class>/<image> here")
        else:
            images.append((*inside, pixels))
            total.update(notes)
    if not images:
        split = where.rpartition("/")[2]
        raise BenchError(f"{where}: no images in {split}/<class>/")
    if empty := sorted(classes - {label for label, _, _ in images}):
        raise BenchError(f"{where}/{empty[0]}: a class without images; remove the folder, or fill it")
    return sorted(images, key=lambda item: item[:2]), without
