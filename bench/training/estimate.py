"""How long the missing runs of a study take: from records, from steps timed now, or from a table of speeds."""

import csv
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench import BenchError
from bench.plan.spec import Run, Study

PIXELS = 128 * 32 * 32  # of a probing step


def seconds_left(
    study: Study, found: list[dict], missing: dict, machine: dict, speeds: dict[tuple, float], say: Callable[[str], None]
) -> float:
    """Seconds of the `missing` runs (by id), one at a time on this machine.

    A run takes the median of those `found` of its recipe, arch and kind of epsilon; where there is none, steps are timed,
    once for every network and number of views that `speeds` does not have yet. `say` is told before that.
    """
    times: dict[tuple, list[float]] = {}
    for record in found:
        recipe, arch, *_ = record["run"]["id"].split("/")
        finite = math.isfinite(float(record["run"]["epsilon"]))
        times.setdefault((recipe, arch, finite), []).append(record["cost"]["seconds"])
    total = 0.0
    for run in study.runs:
        if run.id in missing:
            known = times.get((run.recipe_name, run.arch, math.isfinite(run.epsilon)))
            if known:
                total += statistics.median(known)
                continue
            key = run.arch, run.setting("views"), run.dataset["image_size"]
            if key not in speeds:
                say(f"timing {run.arch}, {run.setting('views')} view{'s' * (run.setting('views') != 1)}")
                speeds[key] = probe(run, machine)
            total += run.recipe["batch_size"] * run.recipe["steps"] / speeds[key]
    return total


def seconds_on_gpu(study: Study, missing: dict, rows: list[dict]) -> float | None:
    """Seconds of the `missing` runs, one at a time on the GPU of `rows`, as `gpu_rows` gives them; None without its arch."""
    total = 0.0
    for run in study.runs:
        if run.id in missing:
            engine = "fast" if math.isfinite(run.epsilon) else "not-private"
            fits = [row for row in rows if (row["arch"], row["engine"]) == (run.arch, engine)]
            if not fits:
                return None
            views = run.setting("views")
            # images a second hardly depend on the views; the fastest physical batch is the one that `auto` finds
            row = max(
                fits,
                key=lambda row: (
                    row["precision"] == run.setting("precision"),
                    -abs(int(row["views"]) - views),
                    row["variant"] == run.variant,
                    float(row["img_per_s"]),
                ),
            )
            total += run.recipe["batch_size"] * run.recipe["steps"] * views / float(row["img_per_s"])
    return total


def gpu_memory(study: Study, missing: dict, measured: dict, say: Callable[[str], None]) -> tuple[float, float]:
    """Bytes that the `missing` runs need at the most, in whole logical batches and sample by sample: `memory.needed`."""
    from bench.training import memory

    runs = {(run.recipe_name, run.arch, math.isfinite(run.epsilon)): run for run in study.runs if run.id in missing}
    found = []
    for run in runs.values():
        say(f"measuring {run.arch}")
        found.append(memory.needed(run, measured))
    whole, least = zip(*found, strict=True)
    return max(whole), max(least)


def gpu_rows(path: Path) -> list[dict]:
    """The rows of a speed table that were timed on its first GPU; [] without any. BenchError where it cannot be read."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        # tf32 and bf16 are timed on GPUs only
        gpus = [row["device"] for row in rows if row["precision"] != "float32"]
        return [row for row in rows if row["device"] == gpus[0] and float(row["img_per_s"]) > 0] if gpus else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: not a speed table ({error!r}); restore it with `git checkout`") from None


def probe(run: Run, machine: dict) -> float:
    """Samples per second of this machine on private steps of `run`'s network, from two physical batches of noise images."""
    import torch

    from bench import models
    from bench.dp.gradients import ENGINES
    from bench.dp.optimizer import Optimizer
    from bench.dp.sampling import generator
    from bench.training.device import device_of

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
        optimizer.finish_step(1)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return n / seconds
