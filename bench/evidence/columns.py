"""Records as a table: a row a run, and what each column is."""

import math
from collections.abc import Iterable

import pandas as pd

from bench.plan.spec import RECIPE_DEFAULTS, epsilon_text, why_not_private


def frame(records: list[dict]) -> pd.DataFrame:
    """A row a run: what identifies it, what came out, what it cost, where it was made. Accuracies in percent."""
    return pd.DataFrame([row(record) for record in records], columns=list(COLUMNS))


def row(record: dict, names: Iterable[str] | None = None) -> dict:
    """The columns `names` of a record, all without."""
    return {name: COLUMNS[name](record) for name in names or COLUMNS}


def setting(record: dict, key: str):
    """The value of `key` in the record's recipe, or what it means where the recipe does not say."""
    return record["run"]["recipe"].get(key, RECIPE_DEFAULTS[key])


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
    # of the last weights, where `accuracy` is that of their average
    "accuracy_without_average": lambda r: _number(r["result"].get("accuracy_without_average")),
    "loss": lambda r: r["result"]["loss"],
    "train_loss": lambda r: _number(r["curve"][-1]["train_loss"]) if r["curve"] else math.nan,  # since the evaluation before
    "best_epoch_accuracy": lambda r: r["result"]["best_epoch_accuracy"],
    "test_split_steers": lambda r: r["result"]["test_split_steers"],
    "budget": lambda r: r["run"]["recipe"]["budget"],
    # whether the run keeps an epsilon; where not, a finite one is nominal
    "private": lambda r: math.isfinite(float(r["run"]["epsilon"])) and why_not_private(r["run"]["recipe"]) is None,
    "epsilon_rdp": lambda r: _number(r["privacy"]["epsilon_rdp"]),
    "epsilon_pld": lambda r: _number(r["privacy"]["epsilon_pld"]),
    "mu": lambda r: _number(r["privacy"].get("mu")),  # of Gaussian differential privacy; NaN in records of before
    "delta": lambda r: r["privacy"]["delta"],
    "noise_multiplier": lambda r: r["privacy"]["noise_multiplier"],
    "sample_rate": lambda r: r["privacy"]["sample_rate"],
    "steps": lambda r: r["privacy"]["steps"],
    "nonfinite_samples": lambda r: r["privacy"].get("nonfinite_samples", 0),
    "clip_norm": lambda r: _number(r["privacy"]["clip_norm"]),
    "views": lambda r: setting(r, "views"),
    "precision": lambda r: setting(r, "precision"),
    "train_size": lambda r: r["data"]["train_size"],
    "test_size": lambda r: r["data"]["test_size"],
    "dataset": lambda r: r["data"]["label"],
    "dataset_digest": lambda r: r["data"]["digest"],
    "parameters": lambda r: r["model"]["parameters"],
    "seconds": lambda r: r["cost"]["seconds"],
    "images_per_second": lambda r: r["cost"]["images_per_second"],
    "peak_memory_mb": lambda r: r["cost"]["peak_memory_mb"],
    "joules": lambda r: _number(r["cost"].get("joules")),  # of the whole device; NaN where no counter could be read
    "device": lambda r: r["machine"]["device_name"],
    "engine": lambda r: r["machine"]["engine"],
    "torch": lambda r: r["machine"]["torch"],
    "opacus": lambda r: r["machine"]["opacus"],
    "commit": lambda r: r["provenance"]["commit"],
    "source_digest": lambda r: r["provenance"]["source_digest"],
}


def _number(value) -> float:
    return math.nan if value is None else float(value)
