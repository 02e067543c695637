"""A profiler's view of one step: where its time goes, kernel by kernel."""

import gzip
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bench.speed.step import Case, make_step

ENGINES = ("not-private", "fast")
LINES = 40  # of the table: the kernels that take longest


def write_traces(case: Case, device: torch.device, folder: Path) -> None:
    """CASE-ENGINE.txt, a table of kernels, and CASE-ENGINE.json.gz for a trace viewer (Perfetto), of each engine."""
    folder.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    for engine in ENGINES:
        step = make_step(engine, "baseline", case, device)
        step()
        with profile(activities=activities, acc_events=True) as profiler:
            step()
        path = folder / f"{case}-{engine}.json"
        order = f"self_{device.type}_time_total"
        path.with_suffix(".txt").write_text(profiler.key_averages().table(sort_by=order, row_limit=LINES) + "\n")
        profiler.export_chrome_trace(str(path))
        path.with_suffix(".json.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
