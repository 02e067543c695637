"""Record and replay on neighbours: with all randomness frozen, two data sets that differ in one image are C apart, no more.

The idea is that of arXiv 2602.17454, which found violations in twelve libraries so. Neighbours are zero-out: the image counts
in one data set and contributes nothing in the other, where its pixels are NaN.
"""

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.dp.gradients import ENGINES
from bench.training.trainer import Trainer
from tests.dp.test_gradients import network_of, optimizer_of
from tests.training.test_loop import MACHINE, tiny  # noqa: F401

PAIRS, SAMPLES, VIEWS, STEP = 100, 4, 2, 3
ROOM = 1e-6  # relative: what rounding may add
ADVERSARIAL = {
    "ordinary": lambda x: x,
    "x 1e6": lambda x: 1e6 * x,
    "x 1e30": lambda x: 1e30 * x,
    "x 1e-6": lambda x: 1e-6 * x,
    "constant": lambda x: torch.full_like(x, 3.0),
    "large constant": lambda x: torch.full_like(x, -1e6),
    "zero": torch.zeros_like,
    "one pixel": lambda x: torch.zeros_like(x).index_fill(-1, torch.tensor([5]), 1e4),
    "one view": lambda x: torch.cat([x[:1], torch.zeros_like(x[1:])]),
    "checks": lambda x: 10 * (x > 0).float() - 5,
    "nan": lambda x: x.masked_fill(x > 2, math.nan),
    "inf": lambda x: x.masked_fill(x > 2, math.inf),
    "-inf": lambda x: x.masked_fill(x > 2, -math.inf),
}
pairs = st.fixed_dictionaries(
    {
        "network": st.sampled_from([("resnet9-w8", "scalenorm"), ("resnet9-w8", "scalar"), ("wrn10-1", "none")]),
        "seed": st.integers(0, 2**31 - 1),
        "place": st.integers(0, SAMPLES - 1),
        "kind": st.sampled_from(list(ADVERSARIAL)),
        "others": st.sampled_from(["ordinary", "x 1e6", "nan"]),
        "label": st.integers(0, 9),
        "clip_norm": st.sampled_from([1e-3, 1.0, 1e3]),
        "physical": st.sampled_from([SAMPLES, 3]),
    }
)


def one_step(network, engine, images, labels, clip_norm, physical):
    """(clipped sums, released gradients) of a step whose noise is frozen and, so that its rounding stays small, weak."""
    optimizer = optimizer_of(network, clip_norm, sigma=1e-3, batch=1.0, seed=7)
    made = ENGINES[engine](network, optimizer)
    optimizer.start_step()
    for part, answers in zip(images.split(physical), labels.split(physical), strict=True):
        made.accumulate(part.clone(), answers)
    optimizer.finish_step(STEP)
    flat = [torch.cat([tensor.double().flatten() for tensor in tensors])
            for tensors in ([p.summed_grad for p in optimizer.params], [p.grad for p in optimizer.params])]  # fmt: skip
    return flat


@pytest.mark.parametrize("engine", ["fast", pytest.param("opacus", marks=pytest.mark.long)])
def test_neighbours_are_at_most_the_clip_norm_apart(engine):
    seen = []

    @settings(max_examples=PAIRS, deadline=None, derandomize=True, database=None)
    @given(pairs)
    def compare(pair):
        source = torch.Generator().manual_seed(pair["seed"])
        network = network_of(*pair["network"], torch.float32)
        images = torch.randn(SAMPLES, VIEWS, 3, 16, 16, generator=source)
        labels = torch.randint(0, 10, (SAMPLES,), generator=source)
        images[(pair["place"] + 1) % SAMPLES] = ADVERSARIAL[pair["others"]](images[(pair["place"] + 1) % SAMPLES])
        images[pair["place"]] = ADVERSARIAL[pair["kind"]](images[pair["place"]])
        labels[pair["place"]] = pair["label"]
        absent = images.clone()
        absent[pair["place"]] = math.nan
        arguments = labels, pair["clip_norm"], pair["physical"]
        with_it, without = (one_step(copy.deepcopy(network), engine, x, *arguments) for x in (images, absent))
        for mine, theirs in zip(with_it, without, strict=True):
            distance = (mine - theirs).norm().item()
            assert distance <= pair["clip_norm"] * (1 + ROOM)
            assert torch.isfinite(mine).all()
        if pair["clip_norm"] == 1e-3 and pair["kind"] == "ordinary":
            assert distance > 0.9 * pair["clip_norm"]  # the image counts at all
        seen.append(pair["kind"])

    compare()
    assert len(seen) >= PAIRS
    assert {"x 1e6", "constant", "nan", "inf"} <= set(seen)


@pytest.mark.parametrize("engine", ENGINES)
def test_of_a_whole_step_an_exchanged_image_changes_twice_the_clip_norm_at_most(engine, tiny):  # noqa: F811
    """Of the shipped trainer: who is drawn, and what noise is added, does not depend on any image."""
    run, dataset = tiny
    released = []
    for value in (None, 0, 255):
        images = dataset.train_images.clone()
        if value is not None:
            images[17] = value
        made = Trainer(
            dataclasses.replace(run, epsilon=8.0, recipe=run.recipe | {"batch_size": 59.0}),
            dataclasses.replace(dataset, train_images=images),
            1e-3,
            MACHINE | {"engine": engine},
        )
        made.take_step()
        released.append(torch.cat([59.0 * p.grad.double().flatten() for p in made.network.parameters()]))
    for other in released[1:]:
        distance = (other - released[0]).norm().item()
        assert 0 < distance <= 2 * run.recipe["clip_norm"] * (1 + ROOM)
