"""Records: the one JSON file that a run leaves. Alone it says what was run, on what, and what came out."""

import json
import math
import os
from pathlib import Path

import pandas as pd

from bench import BenchError
from bench.spec import Run, epsilon_text

FORMAT = 1
STATUSES = ("completed", "diverged")
SECTIONS = ("run", "result", "curve", "privacy", "data", "model", "cost", "machine", "provenance")


def write(record: dict, path: Path) -> None:
    """Writes by rename, so that a record exists whole or not at all."""
    write_text(json.dumps({"format": FORMAT} | _finite(record), indent=1, sort_keys=True) + "\n", path)


def write_text(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)


def read(path: Path) -> dict:
    """The record at `path`; BenchError with the way out when it is damaged or of another format."""
    try:
        record = json.loads(Path(path).read_text())
        if record["format"] != FORMAT:
            raise BenchError(f"{path}: record format {record['format']}, this version reads {FORMAT}; train the run again")
        missing = [section for section in SECTIONS if section not in record]
        if missing or record["status"] not in STATUSES:
            raise KeyError(", ".join(missing) or "status")
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: damaged record ({error}); delete the file and run again: only this run trains") from None
    return record


def matches(record: dict, run: Run) -> bool:
    """Whether the record was made from this very specification."""
    return json.dumps(record["run"], sort_keys=True) == run.json()


def collect(runs: list[Run]) -> tuple[list[dict], dict[str, str]]:
    """(records that exist and match, reason for every other run by id). BenchError lists all damaged records."""
    found, missing, damaged = [], {}, []
    for run in runs:
        if not run.path.exists():
            missing[run.id] = "not run"
            continue
        try:
            record = read(run.path)
        except BenchError as error:
            damaged.append(str(error))
            continue
        if matches(record, run):
            found.append(record)
        else:
            missing[run.id] = "made from another configuration; run again"
    if damaged:
        raise BenchError("\n".join(damaged))
    return found, missing


def frame(records: list[dict]) -> pd.DataFrame:
    """A row a run: what identifies it, what came out, what it cost, where it was made. Accuracies in percent."""
    return pd.DataFrame([row(record) for record in records], columns=list(COLUMNS))


def row(record: dict) -> dict:
    return {column: get(record) for column, get in COLUMNS.items()}


def _part(record: dict, index: int) -> str:
    return record["run"]["id"].split("/")[index]


COLUMNS = {
    "recipe": lambda r: _part(r, 0),
    "arch": lambda r: _part(r, 1),
    "variant": lambda r: _part(r, 2),
    "epsilon": lambda r: epsilon_text(float(r["run"]["epsilon"])),
    "seed": lambda r: r["run"]["seed"],
    "status": lambda r: r["status"],
    "accuracy": lambda r: r["result"]["accuracy"],
    "loss": lambda r: r["result"]["loss"],
    "best_epoch_accuracy": lambda r: r["result"]["best_epoch_accuracy"],
    "test_split_steers": lambda r: r["result"]["test_split_steers"],
    "epsilon_rdp": lambda r: _number(r["privacy"]["epsilon_rdp"]),
    "epsilon_pld": lambda r: _number(r["privacy"]["epsilon_pld"]),
    "delta": lambda r: r["privacy"]["delta"],
    "noise_multiplier": lambda r: r["privacy"]["noise_multiplier"],
    "sample_rate": lambda r: r["privacy"]["sample_rate"],
    "steps": lambda r: r["privacy"]["steps"],
    "clip_norm": lambda r: _number(r["privacy"]["clip_norm"]),
    "train_size": lambda r: r["data"]["train_size"],
    "dataset": lambda r: r["data"]["label"],
    "dataset_digest": lambda r: r["data"]["digest"],
    "parameters": lambda r: r["model"]["parameters"],
    "seconds": lambda r: r["cost"]["seconds"],
    "images_per_second": lambda r: r["cost"]["images_per_second"],
    "peak_memory_mb": lambda r: r["cost"]["peak_memory_mb"],
    "device": lambda r: r["machine"]["device_name"],
    "engine": lambda r: r["machine"]["engine"],
    "torch": lambda r: r["machine"]["torch"],
    "opacus": lambda r: r["machine"]["opacus"],
    "commit": lambda r: r["provenance"]["commit"],
    "source_digest": lambda r: r["provenance"]["source_digest"],
}


def _finite(value):
    """JSON has no infinity: it is written as the text 'inf', and NaN as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _number(value) -> float:
    return math.nan if value is None else float(value)
