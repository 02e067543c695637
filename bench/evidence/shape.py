"""What a record must hold for its readers: the sections, and of each the values without which no table can be made."""

import math

NUMBER, COUNT, TEXT, TRUTH = "a number", "a whole number", "text", "true or false"
ANY_NUMBER = "a number, 'inf' included"
MAYBE = "a number or null"
OPTIONAL = "a number, null or nothing"  # of older records

SECTIONS: dict[str, dict[str, str]] = {
    "run": {"id": TEXT, "epsilon": ANY_NUMBER, "seed": COUNT, "recipe": "keys", "dataset": "keys", "model": "keys"},
    "result": {"accuracy": MAYBE, "loss": MAYBE, "best_epoch_accuracy": MAYBE, "test_split_steers": TRUTH}
    | {"accuracy_without_average": OPTIONAL},
    "curve": {},
    "privacy": {
        **dict.fromkeys(("noise_multiplier", "sample_rate", "delta"), NUMBER),
        **dict.fromkeys(("clip_norm", "epsilon_rdp", "epsilon_pld"), ANY_NUMBER),
        "steps": COUNT,
    },
    "data": {"name": TEXT, "label": TEXT, "digest": TEXT, "official": TRUTH, "train_size": COUNT, "test_size": COUNT},
    "model": {"parameters": COUNT},
    "cost": dict.fromkeys(("seconds", "images_per_second", "peak_memory_mb"), NUMBER) | {"joules": OPTIONAL},
    "machine": dict.fromkeys(("device_name", "engine", "torch", "opacus"), TEXT),
    "provenance": {"commit": TEXT, "source_digest": TEXT, "dirty": TRUTH},
}


def problem(record: dict) -> str | None:
    """The first thing that is missing or no value of its kind, in words; None of a whole record."""
    missing = [name for name in SECTIONS if name not in record]
    if missing:
        return f"{', '.join(missing)} missing"
    for name, keys in SECTIONS.items():
        section = record[name]
        if name == "curve":
            if not isinstance(section, list) or not all(isinstance(point, dict) for point in section):
                return "curve: a list of points is expected"
            keys, parts = {"step": COUNT, "accuracy": NUMBER, "test_loss": MAYBE, "epsilon_rdp": ANY_NUMBER}, section
        elif not isinstance(section, dict):
            return f"{name}: keys are expected"
        else:
            parts = [section]
        for part in parts:
            for key, kind in keys.items():
                if (key not in part and kind != OPTIONAL) or not _is(kind, part.get(key)):
                    return f"{name}.{key}: {kind} expected, not {part.get(key, 'nothing')!r}"
    lacking = [key for key in ("budget", "batch_size", "steps", "optimizer") if key not in record["run"]["recipe"]]
    if lacking:
        return f"run.recipe: {lacking[0]} missing"
    if record["run"]["id"].count("/") != 4:
        return f"run.id: {record['run']['id']!r} is none"
    return None


def _is(kind: str, value) -> bool:
    if kind in (TEXT, TRUTH, "keys"):
        return isinstance(value, {TEXT: str, TRUTH: bool, "keys": dict}[kind])
    if kind in (MAYBE, OPTIONAL) and value is None:
        return True
    if kind == ANY_NUMBER and isinstance(value, str):
        try:
            return not math.isnan(float(value))
        except ValueError:
            return False
    return isinstance(value, int if kind == COUNT else (int, float)) and not isinstance(value, bool)
