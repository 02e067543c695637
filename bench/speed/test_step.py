"""Steps of all engines, interleaved in one process: the medians of ratios survive a machine whose speed drifts."""

import os
import statistics
import subprocess
import sys
import time

import pytest
import torch

from bench import machine
from bench.plan import config
from bench.speed.baselines import TIMED
from bench.speed.step import Case, make_step

ROUNDS = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CASES = {
    "cpu": [Case("resnet9", 64), Case("resnet9", 256), Case("resnet9-w16", 128), Case("wrn16-4", 32), Case("wrn16-4", 8, 4)],
    "cuda": [
        case._replace(precision=precision)
        for case in (Case("resnet9", 512), Case("resnet9-w16", 512), Case("wrn16-4", 256), Case("wrn16-4", 32, 16))
        for precision in ("float32", "tf32", "bf16")
    ],
}[DEVICE.type]


def arms_of(case: Case) -> list[tuple[str, str]]:
    """(engine, variant) of every arm: all engines on the baseline, and what the extra layer of ScaleNorm costs."""
    engines = ("not-private", "fast") if case.precision == "bf16" else TIMED
    one_view = ("opacus-ghost",)  # Opacus' hooks take every view for a sample there
    names = [engine for engine in engines if case.views == 1 or engine not in one_view]
    return [*((engine, "baseline") for engine in names), ("fast", "scalenorm")]


@pytest.mark.parametrize("case", CASES, ids=["-".join(map(str, case)) for case in CASES])
def test_step(benchmark, rows, request, case):
    threads = request.config.getoption("--threads")
    torch.set_num_threads(threads)
    steps = {arm: make_step(*arm, case, DEVICE) for arm in arms_of(case)}
    seconds: dict[tuple, list[float]] = {arm: [] for arm in steps}

    def one_round() -> None:
        for arm, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[arm].append(time.perf_counter() - start)

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)
    steps.clear()  # the memory of the timed networks is not the measured processes'
    found = []
    for (engine, variant), times in seconds.items():
        pairs = zip(times[1:], seconds["not-private", "baseline"][1:], strict=True)
        found.append(
            {
                "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else machine.cpu_name(),
                "threads": threads,
                "arch": case.arch,
                "variant": variant,
                "width": config.load(config.ROOT / "config.yaml", local=False)["archs"][case.arch]["width"],
                "physical_batch": case.samples,
                "views": case.views,
                "precision": case.precision,
                "engine": engine,
                "img_per_s": round(case.samples * case.views / statistics.median(times[1:]), 1),
                "ratio_to_nonprivate": round(statistics.median(mine / reference for mine, reference in pairs), 3),
                "peak_mb": round(_peak_mb(engine, variant, case), 1),
            }
        )
    rows += found
    benchmark.extra_info["rows"] = found


def _peak_mb(engine: str, variant: str, case: Case) -> float:
    """Of a step in a process of its own, MiB; on a CPU every freed block is given back, so that fragments do not count."""
    command = [sys.executable, "-m", "bench.speed.step", engine, variant, *map(str, case)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=config.ROOT, env=environment)
    return float(done.stdout)
