"""Steps of all engines, interleaved in one process: the medians of ratios survive a machine whose speed drifts."""

import statistics
import subprocess
import sys
import time

import pytest
import torch

from bench import config, machine
from bench.speed.baselines import TIMED
from bench.speed.step import make_step

ROUNDS = 7
CASES = [  # (arch, physical batch, the arms: engine and variant)
    *(("resnet9", batch, [*((engine, "baseline") for engine in TIMED), ("fast", "scalenorm")]) for batch in (64, 256)),
    ("resnet9-w16", 128, [*((engine, "baseline") for engine in TIMED), ("fast", "scalenorm")]),
]


@pytest.mark.parametrize(("arch", "physical_batch", "arms"), CASES, ids=[f"{arch}-{batch}" for arch, batch, _ in CASES])
def test_step(benchmark, rows, request, arch, physical_batch, arms):
    threads = request.config.getoption("--threads")
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = {arm: make_step(arch, arm[1], arm[0], physical_batch, device) for arm in arms}
    seconds: dict[tuple, list[float]] = {arm: [] for arm in arms}

    def one_round() -> None:
        for arm, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[arm].append(time.perf_counter() - start)

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)
    steps.clear()  # the memory of the timed networks is not the measured processes'
    reference = seconds["not-private", "baseline"][1:]
    for engine, variant in arms:
        times = seconds[engine, variant][1:]
        rows.append(
            {
                "device": torch.cuda.get_device_name() if device.type == "cuda" else machine.cpu_name(),
                "threads": threads,
                "arch": arch,
                "variant": variant,
                "width": config.load(config.ROOT / "config.yaml", local=False)["archs"][arch]["width"],
                "physical_batch": physical_batch,
                "views": 1,
                "precision": "float32",
                "engine": engine,
                "img_per_s": round(physical_batch / statistics.median(times), 1),
                "ratio_to_nonprivate": round(statistics.median(a / b for a, b in zip(times, reference, strict=True)), 3),
                "peak_mb": round(_peak_mb(arch, variant, engine, physical_batch), 1),
            }
        )
    benchmark.extra_info["rows"] = rows[-len(arms) :]


def _peak_mb(arch: str, variant: str, engine: str, physical_batch: int) -> float:
    command = [sys.executable, "-m", "bench.speed.step", arch, variant, engine, str(physical_batch)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=config.ROOT).stdout)
