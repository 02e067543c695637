"""The rows of the speed table. Steps of all engines are interleaved in one process: the medians of ratios survive a machine
whose speed drifts."""

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from bench import ROOT, machine
from bench.speed.baselines import TIMED
from bench.speed.step import Case, configuration, make_step

ROUNDS, WARM_UP = 5, 2
# Of a case, by device: 12 of them stay within seven minutes of a GPU. An estimate says that they take a third of that.
LIMIT = {"cpu": math.inf, "cuda": 35.0}
CASES = {
    "cpu": [Case("resnet9", 64), Case("resnet9", 256), Case("resnet9-w16", 128), Case("wrn16-4", 32), Case("wrn16-4", 8, 4)],
    "cuda": [
        Case(*shape, precision)
        for precision in ("bf16", "float32", "tf32")
        for shape in (("resnet9", 512, 1), ("resnet9", 1024, 1), ("wrn16-4", 256, 1), ("wrn16-4", 32, 16))
    ],
}
ONLY_CUDA = ("fast-graph", "fast-deterministic")
ONE_VIEW = ("opacus-ghost",)  # Opacus' hooks take every view for a sample there
REFERENCE = ("not-private", "baseline")


def arms_of(case: Case, device: str) -> list[tuple[str, str]]:
    """(engine, variant) of every arm, our own first: all engines on the baseline, and what the layer of ScaleNorm costs.

    What is not ours is timed in float32 only.
    """
    ours = [engine for engine in TIMED if engine.partition("-")[0] in ("not", "fast")]
    others = [engine for engine in TIMED if engine not in ours] if case.precision == "float32" else []
    engines = [
        engine
        for engine in (*ours, *others)
        if (device == "cuda" or engine not in ONLY_CUDA) and (case.views == 1 or engine not in ONE_VIEW)
    ]
    arms = [(engine, "baseline") for engine in engines]
    return [*arms[:2], ("fast", "scalenorm"), *arms[2:]]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else machine.cpu_name()


def rows_of(
    case: Case, device: torch.device, threads: int, say: Callable[[str], None] = print, *, memory: bool = True
) -> list[dict]:
    """The rows of `case`, one an arm. An arm that fails, or whose turn comes when half of the time is over, is left out."""
    torch.set_num_threads(threads)
    start, limit = time.monotonic(), LIMIT[device.type]
    steps, peaks, seconds = {}, {}, {}
    if device.type == "cuda":
        torch.ones(1, 1, device=device) @ torch.ones(1, 1, device=device)  # cuBLAS' workspace counts for no arm
    for arm in arms_of(case, device.type):
        if time.monotonic() - start > limit / 2:
            say(f"{case}: {arm[0]} left out, no time")
            continue
        try:
            steps[arm], peaks[arm] = _warm(arm, case, device)
        except RuntimeError as error:  # out of memory is one, and must not cost the other rows
            if arm == REFERENCE:
                raise
            say(f"{case}: {arm[0]} left out: {str(error).splitlines()[0]}")
    for done in range(ROUNDS):
        began = time.monotonic()
        if done and began + (began - start) / (done + WARM_UP) > start + limit:
            say(f"{case}: {done} of {ROUNDS} rounds, no time")
            break
        for arm, step in steps.items():
            before = time.perf_counter()
            step()
            seconds.setdefault(arm, []).append(time.perf_counter() - before)
    steps.clear()  # the memory of the timed networks is not the measured processes'
    if memory and device.type == "cpu":
        peaks = {arm: _peak_on_a_cpu(arm, case) for arm in peaks}
    what = {"device": device_name(device), "threads": threads}
    return [what | _row(case, arm, times, seconds[REFERENCE]) | {"peak_mb": peaks[arm]} for arm, times in seconds.items()]


def _row(case: Case, arm: tuple[str, str], times: list[float], reference: list[float]) -> dict:
    ratios = [mine / other for mine, other in zip(times, reference, strict=True)]
    return {
        "arch": case.arch,
        "variant": arm[1],
        "width": configuration()["archs"][case.arch]["width"],
        "physical_batch": case.samples,
        "views": case.views,
        "precision": case.precision,
        "engine": arm[0],
        "img_per_s": round(case.samples * case.views / statistics.median(times), 1),
        "ratio_to_nonprivate": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
    }


def _warm(arm: tuple[str, str], case: Case, device: torch.device) -> tuple[Callable[[], None], float | None]:
    """(step, MiB at the peak of the first ones on a GPU, network and images included; what else lies there is not)."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    step = make_step(*arm, case, device)
    for _ in range(WARM_UP):
        step()
    return step, round((torch.cuda.max_memory_allocated() - before) / 2**20, 1) if cuda else None


def _peak_on_a_cpu(arm: tuple[str, str], case: Case) -> float:
    """Of a step in a process of its own, MiB; every freed block is given back, so that fragments do not count."""
    command = [sys.executable, "-m", "bench.speed.step", *arm, *map(str, case)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return round(float(done.stdout), 1)
