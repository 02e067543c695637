"""What the speed table compares with computes the same sums: a baseline that did less would win unfairly."""

import copy
import subprocess
import sys

import pytest

from bench import ROOT
from bench.speed.baselines import TIMED
from bench.speed.step import Case
from bench.speed.table import arms_of
from tests.dp.test_gradients import EXACT, alone, batch_of, clipped_sum, network_of, summed


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("arch", ["resnet9-w8", "wrn10-1"])
@pytest.mark.parametrize("engine", [engine for engine in TIMED if engine not in ("not-private", "fast-graph")])
def test_baseline(engine, arch, views):
    if (engine, "baseline") not in arms_of(Case(arch, 5, views), "cuda"):
        pytest.skip("not timed with several views")
    network = network_of(arch, "baseline")
    images, labels = batch_of(5, views)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).median().float().item()  # opake rounds it to float32
    expected = clipped_sum(gradients, clip_norm, **({"added": 0.0} if engine == "opake" else {}))
    found, _ = summed(copy.deepcopy(network), TIMED[engine], images, labels, clip_norm, 2)
    assert (found - expected).norm() < EXACT * expected.norm()


def test_peak_memory_is_of_the_process_and_of_the_step():
    """A step's peak does not shrink with the memory that the parent process once had."""
    hog = bytearray(400 * 2**20)
    del hog
    command = [sys.executable, "-m", "bench.speed.step", "fast", "baseline", "resnet9-w8"]
    small, large = (
        float(subprocess.run([*command, n, "1", "float32"], capture_output=True, text=True, check=True, cwd=ROOT).stdout)
        for n in ("16", "128")
    )
    # 128 images: input, output and norm of conv1 alone are 3 * 8 * 32 * 32 floats each, 12 MiB
    assert large - small > 10
