"""`python -m bench.speed --out FILE`: times the cases one after another and writes FILE anew after each.

A second call keeps the cases that FILE has of this device and number of threads, unless the sources are younger.
"""

import argparse
import csv
import os
from pathlib import Path

import torch

from bench import ROOT
from bench.speed import table
from bench.speed.step import Case
from bench.speed.trace import write_traces


def case_of(text: str) -> Case:
    """Of 'resnet9:512' or 'wrn16-4:32:16:bf16': arch, samples, views, precision."""
    arch, samples, *more = text.split(":")
    views, precision = [*more, *("1", "float32")[len(more) :]]
    return Case(arch, int(samples), int(views), precision)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--case", type=case_of, nargs="+", metavar="ARCH:SAMPLES[:VIEWS[:PRECISION]]", help="only these")
    parser.add_argument("--no-memory", action="store_true", help="leave peak_mb empty: on a CPU it takes a process an engine")
    parser.add_argument("--traces", type=Path, metavar="FOLDER", help="profile a step of each case, too")
    options = parser.parse_args()
    # deterministic products need it, set before the first one (torch.use_deterministic_algorithms)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = table.device_name(device)
    rows = read(options.out)
    cases = options.case or table.CASES[device.type]
    for number, case in enumerate(cases, 1):
        place = f"{number} of {len(cases)}: {case}"
        if any(of_case(row, case, name, options.threads) for row in rows):
            print(f"{place}: known", flush=True)
        else:
            found = table.rows_of(case, device, options.threads, memory=not options.no_memory)
            rows += found
            write(rows, options.out)
            print(f"{place}: {len(found)} rows", flush=True)
        if options.traces:
            write_traces(case, device, options.traces)
            print(f"{place}: traces in {options.traces}", flush=True)


def of_case(row: dict, case: Case, device: str, threads: int) -> bool:
    """Whether a row, read from a file or new, was timed on this case and device."""
    keys = ("device", "threads", "arch", "physical_batch", "views", "precision")
    return [str(row[key]) for key in keys] == [device, str(threads), *map(str, case)]


def read(path: Path) -> list[dict]:
    """The rows of the table at `path`; none where it is missing, or older than what it times."""
    if not path.exists() or path.stat().st_mtime < max(file.stat().st_mtime for file in (ROOT / "bench").rglob("*.py")):
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[dict], path: Path) -> None:
    """All at once, so that a table is never half a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


if __name__ == "__main__":
    main()
