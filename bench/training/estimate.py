"""How long the missing runs of a study take on this machine."""

import time

import torch

from bench import models
from bench.dp.gradients import ENGINES
from bench.dp.optimizer import Optimizer
from bench.dp.sampling import generator
from bench.plan.spec import Run, Study
from bench.training.trainer import device_of

PIXELS = 128 * 32 * 32  # of a probing step


def left(study: Study, found: list[dict], missing: dict, machine: dict) -> str:
    """'12 min', '3.4 h' or 'done', one run at a time: from the records `found` or, without any, from steps timed now."""
    if not missing:
        return "done"
    if found:
        times = sorted(record["cost"]["seconds"] for record in found)
        seconds = times[len(times) // 2] * len(missing)
    else:
        speed: dict[tuple, float] = {}  # one probe for every network and number of views
        seconds = 0.0
        for run in study.runs:
            key = run.arch, run.setting("views")
            if key not in speed:
                speed[key] = probe(run, machine)
            seconds += run.recipe["batch_size"] * run.recipe["steps"] / speed[key]
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def probe(run: Run, machine: dict) -> float:
    """Samples per second of this machine on private steps of `run`'s network, from two physical batches of noise images."""
    torch.set_num_threads(machine["threads"])
    device = device_of(machine)
    size, channels = run.dataset["image_size"], len(run.dataset["mean"])
    network = models.build(run.model, channels, 10, generator(run.seed, "weights")).to(device)
    optimizer = Optimizer(
        torch.optim.SGD(network.parameters(), lr=0.0), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=1
    )
    engine = ENGINES[machine["engine"]](network, optimizer)
    # large networks and several views: one sample or few tell as much as a full batch
    n = max(1, PIXELS // (run.setting("views") * size**2))
    images = torch.randn(n, run.setting("views"), channels, size, size, device=device)
    labels = torch.zeros(n, dtype=torch.long, device=device)
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        optimizer.start_step()
        engine.accumulate(images, labels).item()
        optimizer.finish_step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return n / seconds
