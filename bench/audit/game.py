"""The task of an audit: a small network of every layer type that has a rule, and canaries of which a coin decides each.

A canary is an image with one bright pixel of its own. A linear layer without bias reads all pixels, so that a canary's
gradient lies almost wholly in its own column there, and clipping makes that column one of length C. Adjacency is zero-out:
a canary whose coin says "absent" has a place in the data set, and in it an image of NaN, which must add nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bench.data import Dataset
from bench.dp import accounting
from bench.layers import Mish, Scalar, WSConv2d
from bench.plan.spec import Model, Norm, Run

CANARIES, OTHERS, CLASSES = 2000, 256, 4
CHANNELS, SIZE = 9, 16  # each pixel behind the first channel belongs to a canary
INNER = 8  # size of the other images, a corner of the first channel
RATE, STEPS, VIEWS, CLIP_NORM, DELTA = 0.25, 20, 2, 1.0, 1e-5
BRIGHT = 100.0  # so much longer is a canary's gradient in its own column than anywhere else
# Physical batches smaller than logical ones, so that accumulation is audited, too.
MACHINE = {"physical_batch": 500, "threads": 1, "checkpoint_minutes": 60, "runs_per_gpu": 1}


class Network(nn.Module):
    """(B, CHANNELS, SIZE, SIZE) -> (B, CLASSES): convolutions of the first channel, plus a linear function of every pixel."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.act = Mish()
        self.ws_conv = WSConv2d(4, 4, 3, 1, 1)
        self.scalar = Scalar()
        self.head = nn.Linear(4, CLASSES)
        self.pixels = nn.Linear(CHANNELS * SIZE * SIZE, CLASSES, bias=False)
        nn.init.zeros_(self.pixels.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.act(self.norm(self.conv(x[:, :1, :INNER, :INNER])))
        features = self.scalar(self.ws_conv(features)).mean((2, 3))
        return self.head(features) + self.pixels(x.flatten(1))


@dataclass(frozen=True, kw_only=True)
class Game:
    """What the auditor sets up: the run, its data, and the coins (CANARIES,) bool, True where a canary is present.

    The first OTHERS images are ordinary, then come the canaries: canary j is the sample OTHERS + j and brightens the pixel
    SIZE * SIZE + j.
    """

    run: Run
    dataset: Dataset
    present: torch.Tensor
    noise_multiplier: float

    @property
    def size(self) -> int:
        return len(self.dataset.train_labels)

    @property
    def absent(self) -> torch.Tensor:
        """(N,) bool over all samples."""
        return torch.cat([torch.zeros(OTHERS, dtype=torch.bool), ~self.present])


def make(seed: int, epsilon: float = 8.0) -> Game:
    """The game of `seed`, which decides data, coins, batches, weights and noise, at the noise that meets `epsilon`."""
    source = np.random.default_rng([seed, 2026])
    labels = torch.from_numpy(source.integers(0, CLASSES, OTHERS + CANARIES))
    images = torch.zeros(OTHERS + CANARIES, CHANNELS, SIZE, SIZE, dtype=torch.uint8)
    patterns = source.integers(0, 128, (CLASSES, INNER, INNER))
    noisy = patterns[labels[:OTHERS]] + source.integers(0, 128, (OTHERS, INNER, INNER))
    images[:OTHERS, 0, :INNER, :INNER] = torch.from_numpy(noisy.astype(np.uint8))
    pixels = SIZE * SIZE + torch.arange(CANARIES)
    images.flatten(1)[OTHERS + torch.arange(CANARIES), pixels] = 255
    dataset = Dataset(
        name="audit", label="Audit", official=False, digest=f"audit-{seed}", classes=CLASSES,
        mean=(0.0,) * CHANNELS, std=(0.5,) + (1 / BRIGHT,) * (CHANNELS - 1),
        train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8],
    )  # fmt: skip
    recipe = {
        "dataset": "audit", "batch_size": RATE * len(labels), "steps": STEPS, "evaluate_every": STEPS, "delta": DELTA,
        "clip_norm": CLIP_NORM, "views": VIEWS, "augmentation": "none", "schedule": "constant", "budget": "calibrated",
        "accountant": "pld", "optimizer": {"name": "sgd", "lr": 1e-3},
    }  # fmt: skip
    model = Model(family="audit", options={}, activation="mish", norm=Norm(kind="group", groups=2), sites={}, stages=())
    run = Run(
        recipe_name="audit", arch="audit", variant="honest", epsilon=epsilon, seed=seed, recipe=recipe,
        dataset={"name": "audit", "label": "Audit", "image_size": SIZE}, model=model,
    )  # fmt: skip
    return Game(
        run=run,
        dataset=dataset,
        present=torch.from_numpy(source.random(CANARIES) < 0.5),
        noise_multiplier=accounting.calibrate(epsilon, RATE, STEPS, DELTA, "pld"),
    )
