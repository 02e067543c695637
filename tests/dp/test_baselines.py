"""What the speed table compares with computes the same sums: a baseline that did less would win unfairly."""

import copy

import pytest

from bench.speed.baselines import TIMED
from tests.dp.test_gradients import EXACT, alone, batch_of, clipped_sum, network_of, summed


@pytest.mark.parametrize("engine", [engine for engine in TIMED if engine != "not-private"])
def test_baseline(engine):
    network = network_of("resnet9-w8", "baseline")
    images, labels = batch_of(5, 1)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).median().item()
    expected = clipped_sum(gradients, clip_norm)
    found, _ = summed(copy.deepcopy(network), TIMED[engine], images, labels, clip_norm, 2)
    assert (found - expected).norm() < EXACT * expected.norm()
