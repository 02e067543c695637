"""`bench show`: a run, a claim or a study in words, from its records here or, without any, the committed ones."""

import statistics
import sys
import textwrap
from pathlib import Path

from bench import ROOT, BenchError
from bench.cli import words
from bench.evidence import live, records
from bench.plan import config as configuration
from bench.plan import resolve
from bench.plan.claims import arms_of
from bench.plan.config import did_you_mean
from bench.plan.spec import RUN_ID, Run, Study, epsilon_text
from bench.terminal import NOTHING, command, duration, table, width_of

REFERENCE = Path("results/reference/records.jsonl")


def show(config: Path, name: str) -> None:
    content = configuration.load(config)
    studies = resolve.studies_of(content)
    runs = {run.id: run for study in studies.values() for run in study.runs}
    run_id = name.removeprefix("results/runs/").removesuffix(".json")
    sections = []
    if name in studies:
        sections.append(_study(studies[name], content))
    if name in content["claims"]:
        sections.append(_claim(name, content, studies))
    if run_id in runs:
        sections.append(_run(runs[run_id], runs, studies))
    if not sections:
        hint = did_you_mean(name, [*studies, *content["claims"], *runs])
        raise BenchError(f"no run, claim or study is called {name!r}{hint}; `{command('runs')}` lists the runs")
    print("\n\n".join("\n".join(lines) for lines in sections))


def finished(runs: list[Run]) -> tuple[dict[str, dict], str]:
    """(records by run id, where they come from): those here or, where none of `runs` has one, the committed ones."""
    found, _ = records.collect(runs)
    place = "results/runs"
    if not found and (ROOT / REFERENCE).exists():
        committed = {record["run"]["id"]: record for record in records.read_lines(ROOT / REFERENCE)}
        found, _ = records.match(runs, committed)
        place = f"the committed reference, {REFERENCE}; nothing of it has finished here"
    return {record["run"]["id"]: record for record in found}, place


def _run(run: Run, runs: dict[str, Run], studies: dict[str, Study]) -> list[str]:
    twin = runs.get(RUN_ID.format(**run.identity | {"variant": "baseline"}))
    lines = [run.id, *_pairs(words.specification(run))]
    lines += _pairs([("studies", ", ".join(study.name for study in studies.values() if run in study.runs))])
    found, place = finished([run])
    record = found.get(run.id)
    if record is None:
        said = live.read([run]).get(run.id, {})
        at = f" at step {said['step']} of {said['steps']}" if said.get("step") and said.get("steps") else ""
        reason = f": {said['reason']}" if said.get("reason") else ""
        return [*lines, *_pairs([("record", f"none yet; {said.get('state', 'not begun')}{at}{reason}"), _again(run)])]
    lines += ["", *_pairs([("record from", place), *words.outcome(record)])]
    if twin is not None and twin != run:
        other = {**finished([twin])[0]}.get(twin.id)
        lines += _pairs([("pair", words.pair(record, other, run.seed))])
    return [*lines, *_pairs([_again(run)])]


def _again(run: Run) -> tuple[str, str]:
    return "to repeat it", command("train", run.id)


def _claim(name: str, content: dict, studies: dict[str, Study]) -> list[str]:
    from bench.evidence import claims, columns

    claim = content["claims"][name]
    study = studies[claim["study"]]
    recipe = claim.get("recipe", study.runs[0].recipe_name)
    contrast = arms_of(claim, recipe)
    found, place = finished(list(study.runs))
    decided = {row["name"]: row for row in claims.of_study(content, study, columns.frame(list(found.values())))}
    lines = [f"claim {name}", *_pairs(words.claim(claim, recipe)), ""]
    lines += _pairs([("records from", place if found else "none yet"), ("verdict", words.verdict(decided[name]))])
    rows = [["seed", *(words.arm(sign, arm, contrast[0][1]) for sign, arm in contrast), "difference"]]
    accuracy = {key: record["result"]["accuracy"] for key, record in found.items()}
    for seed in sorted({run.seed for run in study.runs}):
        values = [accuracy.get(RUN_ID.format(**vars(a), seed=seed)) for _, a in contrast]
        if any(value is not None for value in values):
            signed = [sign * value for (sign, _), value in zip(contrast, values, strict=True) if value is not None]
            difference = f"{sum(signed):+.2f}" if len(signed) == len(values) else NOTHING
            rows.append([str(seed), *(NOTHING if value is None else f"{value:.2f}" for value in values), difference])
    if len(rows) > 1:
        lines += ["", *("  ".join(row) for row in table(rows, width_of(sys.stdout)))]
    return [*lines, "", *_pairs([("to run it", command("run", study.name))])]


def _study(study: Study, content: dict) -> list[str]:
    found, place = finished(list(study.runs))
    claims = [name for name, claim in content["claims"].items() if claim["study"] == study.name]
    lines = [f"study {study.name}", *_pairs([("question", study.question), ("without a GPU", study.without_gpu)])]
    lines += _pairs([("claims", ", ".join(claims))] if claims else [])
    lines += _pairs([("records from", place if found else "none yet")])
    arms: dict[tuple, list[Run]] = {}
    for run in study.runs:
        arms.setdefault((run.recipe_name, run.arch, run.variant, epsilon_text(run.epsilon)), []).append(run)
    rows = [["arm", "seeds", "mean", "sd", "seconds"]]
    for (recipe, arch, variant, epsilon), members in arms.items():
        here = [found[run.id] for run in members if run.id in found]
        values = [record["result"]["accuracy"] for record in here if record["status"] == "completed"]
        seconds = [record["cost"]["seconds"] for record in here if record["status"] == "completed"]
        diverged = f" ({len(here) - len(values)} diverged)" if len(here) > len(values) else ""
        rows.append(
            [
                f"{recipe}/{arch}/{variant}/eps{epsilon}",
                f"{len(values)} of {len(members)}{diverged}",
                f"{statistics.mean(values):.2f}" if values else NOTHING,
                f"{statistics.stdev(values):.2f}" if len(values) > 1 else NOTHING,
                duration(statistics.median(seconds)) if seconds else NOTHING,
            ]
        )
    lines += ["", *("  ".join(row) for row in table(rows, width_of(sys.stdout), least=(4, 3)))]
    return [*lines, "", *_pairs([("to run it", command("run", study.name))])]


def _pairs(rows: list[tuple[str, str]]) -> list[str]:
    """'  name           text', the text wrapped beside its name; commands stay in one line, since they are copied."""
    lines = []
    for name, text in rows:
        head = f"  {name:<15}"
        if name.startswith("to "):
            lines.append(head + text)
        else:
            width = max(40, width_of(sys.stdout))
            lines += textwrap.wrap(
                text, width, initial_indent=head, subsequent_indent=17 * " ", break_on_hyphens=False, break_long_words=False
            )
    return lines
