"""The estimate of a GPU's memory."""

import dataclasses
import gc

import pytest
import torch

from bench.plan import resolve
from bench.training import memory


def test_held_counts_what_is_alive():
    before = torch.ones(1000, 1000)
    with memory.Held() as held:
        first = before + 1  # 4 MB
        second = first.view(-1)[:10]  # none of its own
        before.add_(1)
        assert held.now == held.peak == 4_000_000
        del first
        assert held.now == 4_000_000  # `second` holds it
        del second
        gc.collect()
        assert held.now == 0
        torch.zeros(10, 100)
    assert held.peak == 4_000_000


@pytest.fixture
def run(shipped):
    run = next(run for run in resolve.studies_of(shipped)["pocket"].runs if run.variant == "baseline")
    return dataclasses.replace(run, recipe=run.recipe | {"batch_size": 1024})


def test_what_is_needed_grows_with_samples_and_views(run):
    measured = {}
    whole, least = memory.needed(run, measured)
    count = len(measured)
    half, same = memory.needed(dataclasses.replace(run, recipe=run.recipe | {"batch_size": 512}), measured)
    assert (len(measured), same) == (count, least)  # measured once
    assert (half - least) / (whole - least) == pytest.approx(639 / 1151)  # largest shapes 640 and 1,152, less the one
    views = {"augmentation": "crop-flip", "views": 4}
    of_views, _ = memory.needed(dataclasses.replace(run, recipe=run.recipe | views), measured)
    assert 2 < of_views / whole < 4.5
    # activations of one 32 x 32 image at width 8: more than the block outputs, less than ten times that
    of_sample = (whole - least) / 1151
    outputs = 4 * (8 + 16 + 16 + 16) * 32 * 32
    assert outputs < of_sample < 10 * outputs


def test_the_estimate_is_what_another_batch_takes(run):
    """Linear in the samples: a batch that was not measured holds what the line says, to a tenth."""
    measured = {}
    memory.needed(run, measured)
    ((fixed, of_sample, _),) = measured.values()
    found = memory._of_sums(run, 32, 1, True)
    assert fixed + 32 * of_sample == pytest.approx(found, rel=0.1)
