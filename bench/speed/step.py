"""One training step on random images; `python -m bench.speed.step ARCH VARIANT ENGINE N` prints its peak memory."""

import sys
from collections.abc import Callable

import torch

from bench import config, models, spec
from bench.dp.optimizer import Optimizer
from bench.machine import peak_memory_mb
from bench.speed.baselines import TIMED


def make_step(arch: str, variant: str, engine: str, physical_batch: int, device: torch.device) -> Callable[[], None]:
    """A function that does a whole step of `engine` on CIFAR-10-like images: gradients, noise, SGD."""
    content = config.load(config.ROOT / "config.yaml", local=False)
    generator = torch.Generator().manual_seed(0)
    network = models.build(spec.model_of(content, arch, variant), 3, 10, generator).to(device)
    optimizer = Optimizer(
        torch.optim.SGD(network.parameters(), lr=0.01),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=physical_batch,
    )
    accumulate = TIMED[engine](network, optimizer).accumulate
    images = torch.randn(physical_batch, 1, 3, 32, 32, generator=generator).to(device)
    labels = torch.randint(0, 10, (physical_batch,), generator=generator).to(device)

    def step() -> None:
        optimizer.start_step()
        accumulate(images, labels)
        optimizer.finish_step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main(arch: str, variant: str, engine: str, physical_batch: str) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step = make_step(arch, variant, engine, int(physical_batch), device)
    before = peak_memory_mb()
    for _ in range(3):
        step()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:  # what the interpreter, the libraries and the network take is not the step's
        print(peak_memory_mb() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
