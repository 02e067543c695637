"""What must be known of the network families before any network is built, to refuse what makes no sense."""

from collections.abc import Callable
from dataclasses import dataclass

from bench import plugins


@dataclass(frozen=True, kw_only=True)
class Family:
    """What must be known of a network family before it is built, to refuse what makes no sense."""

    network: str  # 'module:class' that builds it, (model, activation, channels, classes) -> module
    options: tuple[str, ...]  # the keys of an arch or variant that only this family has; all are required
    norm_channels: Callable[[dict], set[int]]  # options -> channels of every norm layer, extra sites included
    # options -> channels of the sums of residual blocks, a number for each group of blocks that `stages` counts
    sum_channels: Callable[[dict], tuple[int, ...]]
    # options, pixels of an image's side -> (pixels of a side, channels) of the norms of every stage
    norm_sides: Callable[[dict, int], list[tuple[int, int]]]
    activation_after_sum: bool
    problem: Callable[[dict], str | None] = lambda options: None  # options -> why there is no such network


# The option that identifies the user's code: an edited one is another network.
SOURCE_DIGEST = "source_digest"
FAMILIES = {
    "resnet9": Family(
        network="bench.models.resnet9:ResNet9",
        options=("width",),
        norm_channels=lambda options: {options["width"] * k for k in (1, 2, 4)},
        sum_channels=lambda options: (2 * options["width"], 4 * options["width"]),
        norm_sides=lambda options, side: [(side // 2**k, options["width"] * min(2**k, 4)) for k in (1, 2, 3)],
        activation_after_sum=False,
    ),
    "wide_resnet": Family(
        network="bench.models.wide_resnet:WideResNet",
        options=("depth", "width", "order", "shortcut", "weight_standardisation"),
        norm_channels=lambda options: {16, *(options["width"] * c for c in (16, 32, 64))},
        sum_channels=lambda options: tuple(options["width"] * c for c in (16, 32, 64)),
        norm_sides=lambda options, side: [(-(-side // 2**k), options["width"] * 2 ** (4 + k)) for k in (0, 1, 2)],
        activation_after_sum=False,
        problem=lambda options: (
            None
            if options["depth"] >= 10 and options["depth"] % 6 == 4
            else f"depth: {options['depth']}: three stages of equal size need 6 n + 4 layers; write 16, 22, 28 or 40, say"
        ),
    ),
    "resnet": Family(
        network="bench.models.resnet:ResNet",
        options=("depth", "width", "stem"),
        norm_channels=lambda options: {
            options["width"] * k for k in ((1, 2, 4, 8, 16, 32) if options["depth"] == 50 else (1, 2, 4, 8))
        },
        sum_channels=lambda options: tuple(options["width"] * k * (4 if options["depth"] == 50 else 1) for k in (1, 2, 4, 8)),
        norm_sides=lambda options, side: [
            (-(-side // ((4 if options["stem"] == "imagenet" else 1) * 2**k)), options["width"] * 2**k * wider)
            for k in range(4)
            for wider in ((1, 4) if options["depth"] == 50 else (1,))
        ],
        activation_after_sum=True,
        problem=lambda options: (
            None if options["depth"] in (18, 34, 50) else f"depth: {options['depth']}: 18, 34 and 50 are known"
        ),
    ),
}

# A family of the user's code: what its arch says of its residual blocks, and nothing else, is known before it is built.
PLUGIN = Family(
    network="bench.models.plugin:build",
    options=("stage_channels",),
    norm_channels=lambda options: set(options["stage_channels"]),
    sum_channels=lambda options: tuple(options["stage_channels"]),
    norm_sides=lambda options, side: [],
    activation_after_sum=True,
)


def family_of(name: str) -> Family:
    return PLUGIN if plugins.is_one(name) else FAMILIES[name]
