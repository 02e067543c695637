"""What the page prints about how runs were made: provenance, and the checklist of what a reader needs to repeat them."""

from collections.abc import Iterator

from bench.evidence import columns
from bench.plan import spec
from bench.report.formats import listing, number, significant
from bench.report.studies import proxies
from bench.report.words import count, epsilon, plural, seeds, unique

MACHINE = ("device_name", "cpu", "platform", "python", "torch", "cuda", "opacus", "dp-accounting", "numpy", "threads",
           "engine", "physical_batch")  # fmt: skip
# what a run was made of, for the provenance table
ORIGIN = ("source_digest", "commit", "dirty", "device_name", "engine", "python", "torch", "cuda", "opacus", "digest")
SPLIT = ("label", "train_size", "test_size", "classes", "digest")


def provenance(studies: list[dict], made: list[dict]) -> dict:
    """A part per study that has runs, and the numbered rows of what they were `made_of`, to which the runs refer."""
    rows, number_of = _made_of(made)
    parts = [_study(study, number_of) for study in studies if study["records"]]
    seen: set[str] = set()
    for row in (row for part in parts for row in part["rows"]):
        row["first"] = row["id"] not in seen  # studies share runs; links lead to the first row of one
        seen.add(row["id"])
    return {"studies": parts, "made_of": rows}


def _study(study: dict, number_of: dict[str, int]) -> dict:
    records = study["records"]
    rows = [_run(record, number_of) for record in records]
    sources = _sources(records)
    return {
        "name": study["name"],
        "sources": sources,
        "mixed": len(sources) > 1,
        "dirty": sum(record["provenance"]["dirty"] for record in records),
        "resumed": sum(bool(row["resumed"]) for row in rows),
        "rows": rows,
    }


def _run(record: dict, number_of: dict[str, int]) -> dict:
    """A row as the tables have it, with the id, the step it was `resumed` at, or 0, and the number of what it was made of."""
    name = record["run"]["id"]
    resumed = record["cost"].get("resumed_at_step") or 0
    return columns.row(record) | {"id": name, "resumed": resumed, "made_of": number_of[name]}


def _sources(here: list[dict]) -> list[dict]:
    """A row per state of the sources, the oldest first: its digest, how many runs it made, commits and first day."""
    rows: dict[str, dict] = {}
    for made_by in sorted((record["provenance"] for record in here), key=lambda provenance: provenance["started"]):
        new = {"digest": made_by["source_digest"], "runs": 0, "commits": [], "day": made_by["started"][:10]}
        row = rows.setdefault(new["digest"], new)
        row["runs"] += 1
        row["commits"] = unique([*row["commits"], made_by["commit"][:10]])
    return list(rows.values())


def _made_of(made: list[dict]) -> tuple[list[dict], dict[str, int]]:
    """(what runs were made of, as `_distinct` gives it for ORIGIN; by run id the number of its row, from 1)"""
    parts = [record["machine"] | record["provenance"] | {"digest": record["data"]["digest"]} for record in made]
    rows = _distinct(parts, ORIGIN)
    numbers = {tuple(row[key] for key in ORIGIN): number for number, row in enumerate(rows, 1)}
    return rows, {r["run"]["id"]: numbers[tuple(part[key] for key in ORIGIN)] for r, part in zip(made, parts, strict=True)}


def checklist(studies: list[dict], made: list[dict], searches: dict[str, list[dict]]) -> dict:
    """The answers of the reproducibility checklist that depend on the runs; empty where nothing was recorded.

    `searches` are the records of runs that chose a recipe's values, by its name.
    """
    settings = {r["run"]["id"].split("/")[0]: spec.RECIPE_DEFAULTS | r["run"]["recipe"] for r in made}
    seconds = sorted(record["cost"]["seconds"] for record in made)
    return {
        "trained": len(made),
        "plans": [_plan(study) for study in studies if study["records"]],
        "averaged": any(recipe["ema"] for recipe in settings.values()),
        "steered": any(record["result"]["test_split_steers"] for record in made),
        "searches": [study["name"] for study in studies if proxies(study["recipes"])],
        "searched": [_searched(name, found) for name, found in sorted(searches.items()) if found],
        "settings": [_setting(name, recipe) for name, recipe in settings.items()],
        "machines": _distinct([record["machine"] for record in made], MACHINE),
        "run_time": {"all": sum(seconds), "shortest": seconds[0], "longest": seconds[-1]} if made else None,
        "peak_memory_mb": max((record["cost"]["peak_memory_mb"] for record in made), default=None),
        "energy": _energy(made),
        "parameters": unique(_parameters(record) for record in made),
        "splits": _distinct([record["data"] for record in made], SPLIT),
    }


def _plan(study: dict) -> str:
    """'quick: 128 of 128, planned as 16 arms of 8 seeds'."""
    seeds = len(study["plan"]["seed"])
    planned = f"{count(study['total'] // seeds, 'arm', 'arms')} of {count(seeds, 'seed', 'seeds')}"
    return f"{study['name']}: {len(study['records'])} of {study['total']}, planned as {planned}"


def settings(made: list[dict]) -> dict[str, dict[str, str]]:
    """The values of every recipe that has runs, as text, parts of a part as 'optimizer.lr'."""
    recipes = {record["run"]["id"].split("/")[0]: spec.RECIPE_DEFAULTS | record["run"]["recipe"] for record in made}
    return {name: dict(_flat(recipe)) for name, recipe in sorted(recipes.items())}


def _flat(values: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _searched(name: str, found: list[dict]) -> str:
    """'recipe pocket: 6 runs of baseline at ε = 8, seed 1000, which no result uses, judged by accuracy on the test split'"""
    runs = [record["run"] for record in found]
    variants = listing(unique(run["id"].split("/")[2] for run in runs))
    epsilons = listing(epsilon(text) for text in unique(str(run["epsilon"]) for run in runs))
    own = sorted({run["seed"] for run in runs})
    return (
        f"recipe {name}: {count(len(runs), 'run', 'runs')} of {variants} at ε = {epsilons}, "
        f"{plural(len(own), 'seed', 'seeds')} {seeds(own)}, which no result uses, judged by accuracy on the test split"
    )


def _setting(name: str, recipe: dict) -> str:
    """Views, averaging, warm-up and precision of a recipe that has its defaults."""
    views = f"{count(recipe['views'], 'view of an image is', 'views of an image are')} one sample"
    augmentation = "no augmentation"
    if recipe["augmentation"] != "none":
        augmentation = f"{recipe['augmentation']}, {recipe['padding']} padding"
    average = f"weights averaged, decay {recipe['ema']:g}" if recipe["ema"] else "weights not averaged"
    warmup = f"warm-up of {count(recipe['warmup'], 'step', 'steps')}" if recipe["warmup"] else "no warm-up"
    parts = spec.mechanism(recipe)
    taken_apart = "".join(f"; no {part}" for part, name in (("clipping", "clip"), ("noise", "noise")) if not parts[name])
    return f"{name}: {views} ({augmentation}); {average}; {warmup}; {recipe['precision']}{taken_apart}."


def _energy(made: list[dict]) -> dict | None:
    """Kilowatt-hours of the runs that could read a counter, how many these are, and what was counted; None without any."""
    measured = [record for record in made if record["cost"].get("joules") is not None]
    if not measured:
        return None
    devices = {"cuda": "the GPU, its CPU aside,", "cpu": "the CPU package"}
    return {
        "kwh": significant(sum(record["cost"]["joules"] for record in measured) / 3.6e6, 3),
        "runs": len(measured),
        "devices": unique(devices[record["machine"]["device"]] for record in measured),
    }


def _parameters(record: dict) -> str:
    _, arch, variant, *_ = record["run"]["id"].split("/")
    return f"{arch} {variant}, {record['data']['name']}: {number(record['model']['parameters'], 0)}"


def _distinct(items: list[dict], keys: tuple[str, ...]) -> list[dict]:
    """The different values of `keys` among `items`, in order of appearance, and how many `runs` have each."""
    counts: dict[tuple, int] = {}
    for item in items:
        values = tuple(item[key] for key in keys)
        counts[values] = counts.get(values, 0) + 1
    return [dict(zip(keys, values, strict=True)) | {"runs": runs} for values, runs in counts.items()]
