"""One sample adds at most C, whatever its image: rounding included."""

import copy

import pytest
import torch

from bench.dp.gradients import ENGINES
from bench.dp.optimizer import SLACK, squared_norms
from tests.dp.test_gradients import network_of, optimizer_of

SHAPE = (1, 2, 3, 16, 16)  # a sample of two views
IMAGES = {
    "noise": lambda: torch.randn(SHAPE),
    "signs": lambda: 2 * torch.randn(SHAPE).sign(),
    "constant": lambda: torch.full(SHAPE, 3.0),
    "zero": lambda: torch.zeros(SHAPE),
    "one pixel": lambda: torch.zeros(SHAPE).index_fill(4, torch.tensor([5]), 100.0),
    "small": lambda: 1e-3 * torch.randn(SHAPE),
    "large": lambda: 1e3 * torch.randn(SHAPE),
    "huge": lambda: 1e15 * torch.randn(SHAPE),
}
NETWORKS = [("resnet9-w8", "scalenorm"), ("resnet9-w8", "none"), ("wrn10-1", "scalenorm"), ("wrn10-1-plain", "none")]


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize(("arch", "variant"), NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_float32_sample_adds_at_most_the_clip_norm(engine, arch, variant, kind):
    torch.manual_seed(0)
    network, images, clip_norm = network_of(arch, variant, torch.float32), IMAGES[kind](), 1e-3
    for label in range(3):
        own = copy.deepcopy(network)
        optimizer = optimizer_of(own, clip_norm)
        optimizer.start_step()
        ENGINES[engine](own, optimizer).accumulate(images.clone(), torch.tensor([label]))
        norm = torch.cat([p.summed_grad.double().flatten() for p in optimizer.params]).norm().item()
        (told,) = optimizer.norms[0].tolist()
        assert told > 10 * clip_norm  # or the 1e-6 would hide an error
        assert norm <= clip_norm
        assert norm > clip_norm * (1 - SLACK * 2**-23 - 1e-6 / told)  # and no less than the margin takes


@pytest.mark.parametrize("size", [1, 255, 256, 257, 589_824])
def test_squared_norms_add_in_blocks(size):
    """Equal entries are the worst for sums one after the other: those are off by 5.5e-4 at the largest size (torch 2.13)."""
    for gradients in (torch.full((2, size), 0.1), torch.linspace(-1, 1, 2 * size).view(2, size)):
        found = squared_norms(gradients)
        assert found.dtype == torch.float64
        # 32 additions in a row in each of 8 lanes, and the 8: 40 * 2^-24 in the norm of a block, twice that in its square
        assert (found / gradients.double().square().sum(1) - 1).abs().max() < 80 * 2**-24


def test_a_norm_below_the_clip_norm_keeps_its_gradient():
    optimizer = optimizer_of(network_of("resnet9-w8", "baseline", torch.float32), 1.0)
    factors = optimizer.clip_factors(torch.tensor([0.0, 0.25, 1.0, 4.0, -1e-12], dtype=torch.float64))
    assert factors[[0, 1, 4]].tolist() == [1, 1, 1]
    assert factors[2] < 1
    assert factors[3].item() == pytest.approx(0.5, rel=1e-5)
