"""Verbs from records on: tables, report, the committed results."""

import sys
from pathlib import Path

from bench import ROOT, BenchError, machine, terminal
from bench.commands.runs import calibrate, dataset
from bench.evidence import datasets, kept, records
from bench.plan import config as configuration
from bench.plan import resolve, spec
from bench.terminal import command

RESULTS = Path("results")
REPORT, REFERENCE = Path("report/report.html"), Path("report/reference.html")


def summarise(config: Path) -> None:
    from bench.evidence import summary, tables

    content = configuration.load(config)
    studies = resolve.studies_of(content)
    finished = []

    def collect(runs: list) -> tuple[list[dict], dict[str, str]]:
        found, missing = records.collect(runs)
        finished.extend(found)
        return found, missing

    made = tables.build(content, studies, collect, lambda study, missing: _why_not(study, missing, content))
    for name, table in made.items():
        records.write_text(tables.text(table), RESULTS / f"{name}.csv")
    for note in summary.mixed_data(made["summary"]):
        print(note)
    kept.release(finished)


def _why_not(study: spec.Study, missing: dict, content: dict) -> str:
    """Why the missing runs of a study were not run, in a sentence that says what to do."""
    if other := sum(reason == records.OTHER_DATA for reason in missing.values()):
        return f"made from other data: {other} of {len(study.runs)}; run `python -m bench train --study {study.name}`"
    stale = sum(reason != "not run" for reason in missing.values())
    run = f"run `{terminal.command('run', study.name)}`"
    if stale:
        return f"{stale} records were made from another configuration; {run}"
    gpu = machine.uses_gpu(content["machine"])
    if study.without_gpu == "skip" and not gpu:
        return f"needs a CUDA GPU, and this machine has none; there, {run}"
    if study.without_gpu == "on-request" and not gpu:
        return f"takes long on a CPU; {run}"
    return f"not finished, or not asked for; {run}"


def report(config: Path, out: Path) -> None:
    from bench.report import page

    content = configuration.load(config)
    page.write(content, resolve.studies_of(content), out)


def open_report(config: Path, only_print: bool) -> None:
    if REPORT.exists():
        path, what = REPORT.resolve(), ""
    elif (ROOT / REFERENCE).exists():
        path = ROOT / REFERENCE
        what = f"no report of your own yet, `{command('run')}` makes one; this is of the committed results\n"
    else:
        raise BenchError(f"{REPORT}: no such file; `{command('run')}` makes it")
    print(what, end="", file=sys.stderr)
    print(path)
    if only_print:
        return

    import webbrowser

    if not webbrowser.open(path.as_uri()):
        print("no browser could be started here; open the file in yours", file=sys.stderr)


def promote(config: Path, study: tuple[str, ...], more: tuple[str, ...], speed: bool) -> None:
    from bench.report import reference

    content = configuration.load(config)
    new = {}
    for name in (*study, *more):
        runs = list(resolve.study_of(content, name).runs)
        found, _ = records.collect(runs)
        if not found:
            raise BenchError(
                f"study {name}: no record here was made from this configuration; `{command('run', name)}` makes them"
            )
        new |= {record["run"]["id"]: record for record in found}
        print(f"{name}: {len(found)} of {len(runs)} runs have finished")
        for what, section, key in (("states of the sources", "provenance", "source_digest"), ("data sets", "data", "digest")):
            values = sorted({record[section][key][:12] for record in found})
            if len(values) > 1:
                print(f"{name}: note: its runs were made with {len(values)} {what}: {', '.join(values)}")
    _refuse_contradictions(list(new.values()))
    if new:
        count = reference.promote(list(new.values()))
        print(f"{reference.RECORDS}: {', '.join(f'{count[how]} {how}' for how in ('added', 'replaced', 'unchanged'))}")
    if speed:
        print(f"{reference.SPEED}: {reference.promote_speed(RESULTS / 'speed.csv')} rows")
    print(f"`{command('reference')}` makes tables, report and documents from it; then commit")


def restore(config: Path, study: str) -> None:
    from bench.report import reference

    content = configuration.load(config)
    planned = list(resolve.study_of(content, study).runs)
    matching, missing = reference.of(planned)
    here = {run.id for run in planned if run.path.exists()}
    if not matching and not here:
        other = sum(reason != "not run" for reason in missing.values())
        why = f" of this configuration and copy of the data, but {other} of another" if other else ""
        raise BenchError(
            f"study {study}: {reference.RECORDS} has none of its runs{why}; `{command('run', study)}` makes them"
        )
    back = {record["run"]["id"]: record for record in matching if record["run"]["id"] not in here}
    # before the records, as Snakemake makes them: what is younger than a record would have it trained again
    for name in sorted({record["data"]["name"] for record in back.values()}):
        dataset(config, name, datasets.path_of(name))
        mine = {run: record for run, record in back.items() if record["data"]["name"] == name}
        other = [run for run, record in mine.items() if datasets.differs(record, datasets.digest_of(name))]
        if other:
            raise BenchError(
                f"{name}: {len(other)} committed runs were {records.OTHER_DATA}, {other[0]} for one; none was put back"
            )
    for run in {(run.recipe_name, run.epsilon): run for run in planned if run.id in back}.values():
        path = Path("results/noise", run.recipe_name, f"eps{spec.epsilon_text(run.epsilon)}.json")
        if not path.exists():
            calibrate(config, run.recipe_name, run.epsilon, path)
    for run in planned:
        if run.id in back:
            records.write(back[run.id], run.path)
    left = sum(run.id not in back and run.id not in here for run in planned)
    print(f"{study}: {len(back)} records put back, {len(here)} were here, {left} of {len(planned)} runs are missing")


def _refuse_contradictions(new: list[dict]) -> None:
    """BenchError, with each run's id and both values, for records that are not what their own numbers give."""
    from bench.training import recomputed

    problems = [problem for record in new for problem in recomputed.disagreements(record)]
    if problems:
        shown = "\n".join(problems[:20]) + (f"\nand {len(problems) - 20} more" if len(problems) > 20 else "")
        raise BenchError(f"{shown}\nnothing was taken in; delete these records and run their study again")


def reference(config: Path) -> None:
    from bench import ROOT
    from bench.report import reference as committed

    files, outside = committed.derived(config)
    for path, text in files.items():
        records.write_text(text, ROOT / path)
        print(path)
    if outside:
        print(f"{len(outside)} committed runs belong to no study of {config}, {outside[0]} for one; no table counts them")
    if not (ROOT / committed.RECORDS).exists():
        print(f"no {committed.RECORDS} yet, so no tables and no report: `{command('promote')}` makes it")


def compare(config: Path, first: Path, second: Path, study: str | None) -> int:
    from bench.evidence import compare as comparison
    from bench.evidence import tables

    for path in (first, second):
        if not path.exists():
            raise BenchError(
                f"{path}: no such table; `summarise` makes results/runs.csv, `promote` and `reference` the committed one"
            )
    read = [tables.read(path, "a table like results/runs.csv is expected") for path in (first, second)]
    found = comparison.compare(*(_runs_of(table, config, study) for table in read))
    for arm, what, *values, note in found["different"]:
        print(f"{arm}: {what}: {values[0]} against {values[1]}{f' ({note})' if note else ''}")
    for arm in found["untested"]:
        print(f"{arm}: accuracies not tested, too few seeds have finished")
    for path, key in ((first, "only_first"), (second, "only_second")):
        if found[key]:
            print(f"{len(found[key])} arms are in {path} only; they are not compared")
    count = len(found["different"])
    print(
        f"{found['arms']} arms compared, {count or 'no'} difference{'s' * (count != 1)} (tables that agree are said to "
        f"differ with a chance of at most {100 * comparison.FALSE_ALARMS:g} %)"
    )
    return 1 if count else 0


def _runs_of(table, config: Path, study: str | None):
    """The rows of `table` that `study` plans, or all of them."""
    if study is None:
        return table
    runs = resolve.study_of(configuration.load(config), study).runs
    planned = {(run.recipe_name, run.arch, run.variant, spec.epsilon_text(run.epsilon)) for run in runs}
    arms = zip(*(table[name] for name in ("recipe", "arch", "variant", "epsilon")), strict=True)
    return table[[arm in planned for arm in arms]]
