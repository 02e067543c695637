"""The committed results. `records.jsonl` and `speed.csv` are their sources; every other file is derived from these two.

Paths are below `root`, the repository: a reference belongs to the code that made it, not to a working directory.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench import ROOT, BenchError
from bench.evidence import over_steps, records, tables
from bench.plan import config as configuration
from bench.plan import resolve, spec

FOLDER = Path("results/reference")
RECORDS = FOLDER / "records.jsonl"
SPEED = FOLDER / "speed.csv"
VERSION_1 = FOLDER / "pairs-version-1.csv"  # runs of study pairs with noise that pairs shared at the first step only
TABLES = ("runs", "summary", "claims")  # `not_run` is in the report only
DOCUMENTS = (Path("README.md"), Path("results/README.md"))
# Keys of a dataset that say which copy of the data a machine has; a record names its copy in every table.
COPY = ("source", "label")


def read(root: Path = ROOT) -> dict[str, dict]:
    """The committed records by run id; none where the file is not there yet."""
    path = root / RECORDS
    return {record["run"]["id"]: record for record in records.read_lines(path)} if path.exists() else {}


def of(runs: list[spec.Run], root: Path = ROOT) -> tuple[list[dict], dict[str, str]]:
    """(committed records of these very specifications, reason for every other run by id), in the order of `runs`."""
    return records.match(runs, read(root))


def read_searches(folder: Path) -> dict[str, list[dict]]:
    """The records of the runs that chose a recipe's values, by the recipe's name."""
    found = sorted(folder.glob("*-search.jsonl"))
    return {path.name.removesuffix("-search.jsonl"): records.read_lines(path) for path in found}


def promote(new: list[dict], root: Path = ROOT) -> Counter:
    """Takes `new` records into records.jsonl, in the place of those of the same runs; counts added, replaced, unchanged.

    BenchError, and nothing written, for records that no commit gives back: made with uncommitted changes, outside git, or by
    code of the user.
    """
    foreign = [r["run"]["id"] for r in new if "plugins" in r["provenance"]]
    if foreign:
        raise BenchError(
            f"{len(foreign)} of {len(new)} records were made by code outside of the suite, {foreign[0]} for one: a reference "
            "needs a commit that gives its sources back; make it a family or a source of the suite, or `bench export` them"
        )
    lost = [r["run"]["id"] for r in new if r["provenance"]["dirty"] or r["provenance"]["commit"] == "unknown"]
    if lost:
        raise BenchError(
            f"{len(lost)} of {len(new)} records were made with uncommitted changes or outside git, {lost[0]} for one: a "
            "reference needs a commit that gives its sources back; commit, delete these records and run the study again"
        )
    old = read(root)
    count: Counter = Counter()
    for record in new:
        known = old.get(record["run"]["id"])
        count["added" if known is None else "unchanged" if known == record else "replaced"] += 1
    by_id = old | {record["run"]["id"]: record for record in new}
    records.write_text(records.lines(list(by_id.values())), root / RECORDS)
    return count


def promote_speed(path: Path, root: Path = ROOT) -> int:
    """Takes the speed table at `path` into speed.csv, in the place of all rows of the same devices; the number of rows."""
    new = tables.read(path, "run `snakemake --cores all speed` first")
    if (root / SPEED).exists():
        old = tables.read(root / SPEED, "restore it with `git checkout`")
        new = pd.concat([old[~old["device"].isin(new["device"])], new])
    records.write_text(tables.text(new), root / SPEED)
    return len(new)


def plan(studies: dict[str, spec.Study], by_id: dict[str, dict]) -> tuple[dict[str, spec.Study], list[str]]:
    """(the studies, their runs with the copy of the data that the record names; ids of records that no run matches).

    A record matches when its specification is the run's, `COPY` of the dataset aside: the reference is rebuilt on
    machines that have another copy, or none.
    """
    planned = {
        name: replace(study, runs=tuple(_with_copy(run, by_id.get(run.id)) for run in study.runs))
        for name, study in studies.items()
    }
    runs = [run for study in planned.values() for run in study.runs]
    matched = {record["run"]["id"] for record in records.match(runs, by_id)[0]}
    return planned, [name for name in by_id if name not in matched]


def _with_copy(run: spec.Run, record: dict | None) -> spec.Run:
    if record is None:
        return run
    copy = {key: value for key, value in record["run"]["dataset"].items() if key in COPY}
    return replace(run, dataset=run.dataset | copy)


def build(content: dict, by_id: dict[str, dict]) -> tuple[dict[str, spec.Study], dict, list[str]]:
    """(studies as `plan` gives them, their tables, ids of records outside) for the configuration `content`."""
    studies, outside = plan(resolve.studies_of(content), by_id)
    made = tables.build(content, studies, lambda runs: records.match(runs, by_id), _why_not)
    return studies, made, outside


def _why_not(study: spec.Study, missing: dict[str, str]) -> str:
    stale = sum(reason != "not run" for reason in missing.values())
    how = f"run `bench run {study.name}`, then `bench promote --study {study.name}`"
    state = f"committed from another configuration: {stale} of {len(study.runs)}" if stale else "not committed yet"
    return f"{state}; {how}"


def machines(made: list[dict]) -> list[dict]:
    """A row for every machine and state of its software among the records: how it describes itself, and what it did.

    Keys are those of a record's `machine`, and `runs` by engine, `hours` of training and the `commits`.
    """
    rows: dict[str, dict] = {}
    for record in made:
        machine = {key: value for key, value in record["machine"].items() if key != "engine"}
        new = machine | {"runs": Counter(), "hours": 0.0, "commits": set()}
        row = rows.setdefault(json.dumps(machine, sort_keys=True), new)
        row["runs"][record["machine"]["engine"]] += 1
        row["hours"] += record["cost"]["seconds"] / 3600
        row["commits"].add(record["provenance"]["commit"])
    return [
        row | {"runs": dict(sorted(row["runs"].items())), "hours": round(row["hours"], 3), "commits": sorted(row["commits"])}
        for _, row in sorted(rows.items())
    ]


def derived(config: Path, root: Path = ROOT, *, page: bool = True) -> tuple[dict[Path, str], list[str]]:
    """({path below root: text} of every file that is derived; ids of records that no study of `config` plans).

    The same texts on every machine: config.local.yaml and the clock have no part in it. Without records only the documents
    are derived, and without `page` the report is left out.
    """
    from bench.report import snippets

    content = configuration.load(config, local=False)
    by_id = read(root)
    studies, made, outside = build(content, by_id)
    files = {}
    if by_id:
        files |= {FOLDER / f"{name}.csv": tables.text(made[name]) for name in TABLES}
        files[FOLDER / "machines.json"] = json.dumps(machines(list(by_id.values())), indent=1, sort_keys=True) + "\n"
        if page:
            from bench.report.page import reference_page

            found = {name: record for name, record in by_id.items() if name not in outside}
            text = reference_page(content, studies, found, made, root / FOLDER, outside)
            files[Path("report/reference.html")] = text
    speed = root / SPEED
    quoted = made | {"speed": tables.read(speed, "restore it with `git checkout`") if speed.exists() else pd.DataFrame()}
    quoted["evaluations"] = over_steps.evaluations([record for name, record in by_id.items() if name not in outside])
    quoted["searches"] = read_searches(root / FOLDER)
    before = root / VERSION_1
    quoted["version 1"] = (  # whose tables did not say yet what is private; these runs are
        tables.read(before, "restore it with `git checkout`").assign(private=True) if before.exists() else pd.DataFrame()
    )
    for path in DOCUMENTS:
        files[path] = snippets.fill((root / path).read_text(), quoted, studies, str(path))
    return files, outside
