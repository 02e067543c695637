"""A step on random images; `python -m bench.speed.step ENGINE VARIANT ARCH N K PRECISION` prints its peak memory, MiB."""

import sys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

from bench import models
from bench.dp.optimizer import Optimizer
from bench.machine import peak_memory_mb
from bench.plan import config, resolve
from bench.speed.baselines import TIMED
from bench.training.recipe import set_precision


class Case(NamedTuple):
    """What engines are compared on: a network and the physical batch, of `samples` with `views` each."""

    arch: str
    samples: int
    views: int = 1
    precision: str = "float32"

    def __str__(self) -> str:
        return "-".join(str(part) for part in self)


@cache
def configuration() -> dict:
    """As it is committed."""
    return config.load(config.ROOT / "config.yaml", local=False)


def make_step(engine: str, variant: str, case: Case, device: torch.device) -> Callable[[], None]:
    """A function that does a whole step of `engine` on CIFAR-10-like images: gradients, noise, SGD."""
    generator = torch.Generator().manual_seed(0)
    network = models.build(resolve.model_of(configuration(), case.arch, variant), 3, 10, generator).to(device)
    set_precision(case.precision, network, device)
    optimizer = Optimizer(
        torch.optim.SGD(network.parameters(), lr=0.01),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=case.samples,
    )
    accumulate = TIMED[engine](network, optimizer).accumulate
    images = torch.randn(case.samples, case.views, 3, 32, 32, generator=generator).to(device)
    labels = torch.randint(0, 10, (case.samples,), generator=generator).to(device)

    def step() -> None:
        optimizer.start_step()
        accumulate(images, labels)
        optimizer.finish_step(1)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main(engine: str, variant: str, arch: str, samples: str, views: str, precision: str) -> None:
    """On a CPU; on a GPU the table reads the peak in process."""
    step = make_step(engine, variant, Case(arch, int(samples), int(views), precision), torch.device("cpu"))
    before = peak_memory_mb()  # what the interpreter, the libraries and the network take is not the step's
    for _ in range(3):
        step()
    print(peak_memory_mb() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
