"""What is known of data sets before any file is read, to refuse what no image of theirs can be."""

import math

from bench import BenchError, plugins
from bench.plan.families import family_of
from bench.plan.spec import Model, Norm

# Of the sources with one official archive; those of an image folder are whatever it holds.
TRAIN_SIZES = {"digits": 1437, "cifar10": 50_000, "imagenette": 9469}
CHANNELS = {"digits": 1, "cifar10": 3}
PIXELS = {"cifar10": 32}


def problems(place: str, dataset: dict) -> list[str]:
    """Every refusal of what the keys of a data set mean together."""
    found, source = [], dataset["source"]
    if plugins.is_one(source):
        try:
            plugins.find(source)
        except BenchError as error:
            found.append(f"{place}.source: {error}")
    counts = (CHANNELS[source],) if source in CHANNELS else (1, 2, 3, 4) if plugins.is_one(source) else (1, 3)
    for key in ("mean", "std"):
        if len(dataset[key]) not in counts:
            expected = " or ".join(map(str, counts))
            found.append(f"{place}.{key}: {len(dataset[key])} values; images of {source} have {expected} channels")
    if not found and len(dataset["mean"]) != len(dataset["std"]):
        found.append(f"{place}.std: {len(dataset['std'])} values, and mean has {len(dataset['mean'])}; give one a channel")
    if dataset["image_size"] != PIXELS.get(source, dataset["image_size"]):
        found.append(f"{place}.image_size: source {source} has images of {PIXELS[source]} pixels; set {PIXELS[source]}")
    return found


def too_small(model: Model, dataset: dict) -> str | None:
    """Why images of the data set leave a norm of the network a single value, which has no variance; None where not."""
    if "image_size" not in dataset:
        return None
    sides = family_of(model.family).norm_sides(model.options, dataset["image_size"])
    norms = [norm for norm in (model.norm, *model.sites.values()) if isinstance(norm, Norm)]
    if all(side**2 * _channels_of(norm, channels) > 1 for norm in norms for side, channels in sides):
        return None
    size = dataset["image_size"]
    return f"images of {size} pixels leave its last norms one value each; choose a larger image_size, or fewer groups"


def _channels_of(norm: Norm, channels: int) -> float:
    """Channels that share a statistic; those of a batch norm count as one, since a batch may be one sample."""
    return {"group": channels // min(norm.groups or channels, channels), "none": math.inf}.get(norm.kind, 1)
