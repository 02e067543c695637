"""What the verbs of `bench` do. Torch is imported only where a verb needs it."""

import json
import math
import sys
from pathlib import Path

from bench import ROOT, BenchError, machine, plugins, slurm, terminal
from bench.evidence import datasets, kept, records
from bench.plan import config as configuration
from bench.plan import resolve, spec
from bench.plan.datasets import TRAIN_SIZES
from bench.terminal import command

RESULTS = Path("results")
REPORT, REFERENCE = Path("report/report.html"), Path("report/reference.html")
SPEED = Path("results/reference/speed.csv")


def check(config: Path) -> None:
    content = configuration.load(config)
    studies = resolve.studies_of(content)
    collected = {study.name: records.collect(list(study.runs)) for study in studies.values()}
    for place, reference in plugins.references(content).items():
        print(f"{place}: {reference} is code of yours, which runs here:\n  {plugins.find(reference)}")

    from bench.training import estimate

    _refuse_out_of_reach(studies)
    everything = [record for found, _ in collected.values() for record in found]
    gpu, gpu_rows, speeds = machine.uses_gpu(content["machine"]), estimate.gpu_rows(ROOT / SPEED), {}
    measured, memories = {}, {}
    rows = [("study", "runs", "done", "here", "about", "memory", "question")]
    for study in studies.values():
        found, missing = collected[study.name]
        here = "runs" if gpu or study.without_gpu == "run" else study.without_gpu.replace("skip", "needs a GPU")
        if not missing:
            about = "done"
        elif here == "needs a GPU":
            seconds = estimate.seconds_on_gpu(study, missing, gpu_rows)
            about = "unknown without a GPU" if seconds is None else f"{terminal.duration(seconds)} on a GPU"
            memories[study.name] = estimate.gpu_memory(study, missing, measured, _say_for_now)
        else:
            about = terminal.duration(
                estimate.seconds_left(study, everything, missing, content["machine"], speeds, _say_for_now)
            )
        memory = _gib(memories[study.name][0]) if study.name in memories else ""
        rows.append((study.name, str(len(study.runs)), str(len(found)), here, about, memory, study.question))
    _say_for_now("")
    for line in _lines(rows):
        print(line)
    count = len({run.id for study in studies.values() for run in study.runs})
    print(f"\n{count} runs in all. About: the missing ones, one at a time,")
    print("from records of their kind or else from a few steps that were timed just now.")
    if gpu_rows:
        print(f"On a GPU: from {SPEED}, timed on {gpu_rows[0]['device']}.")
    if memories:
        least = max(least for _, least in memories.values())
        print("Memory: a GPU's for whole batches at once, estimated from a few samples here;")
        print(f"one with less takes smaller batches, with {_gib(least)} sample by sample.")


def _gib(size: float) -> str:
    return f"{size / 2**30:.{0 if size >= 10 * 2**30 else 1}f} GiB"


def _refuse_out_of_reach(studies: dict) -> None:
    """BenchError with every recipe and epsilon that no noise meets, on data sets of which the size is known."""
    from bench.training import recipe

    problems, seen = [], set()
    for run in _unique(studies):
        size = datasets.size_of(run.recipe["dataset"]) or TRAIN_SIZES.get(run.dataset["source"])
        if size is None or (run.recipe_name, run.epsilon) in seen:
            continue
        seen.add((run.recipe_name, run.epsilon))
        try:
            recipe.reach(run, size)
        except BenchError as error:
            problems.append(f"config.yaml: recipes.{run.recipe_name}: {error}")
    if problems:
        raise BenchError("\n".join(problems))


def _lines(rows: list[tuple[str, ...]]) -> list[str]:
    """A table whose last column ends where the terminal does, or is left out where little of it would be seen."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    if not terminal.is_terminal(sys.stdout):
        return lines
    width, others = terminal.width_of(sys.stdout), sum(widths) + 2 * len(widths)
    return [line[: width if width - others >= terminal.SHORTEST_NAME else others].rstrip() for line in lines]


def _say_for_now(text: str) -> None:
    """A line on the terminal that the next one replaces; nothing in a file."""
    if terminal.is_terminal(sys.stderr):
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def runs(config: Path, study: str | None) -> None:
    content = configuration.load(config)
    for run in _unique(resolve.studies_of(content) if study is None else {study: resolve.study_of(content, study)}):
        print(run.id, run.path)


def describe(config: Path, arch: str, variant: str, dataset: str) -> None:
    content = configuration.load(config)
    model, source = resolve.model_of(content, arch, variant), _dataset(content, dataset)
    channels, size = len(source["mean"]), source["image_size"]

    from bench import models

    network = models.build(model, channels, 10)
    models.check_logits(model, network, (channels, size, size), 10)
    print(f"{arch} {variant}: {sum(p.numel() for p in network.parameters()):,} parameters ({dataset}, 10 classes)")
    print(f"norm {model.norm.kind}" + (f", {model.norm.groups} groups" if model.norm.groups else ""), end="")
    print(f"; activation {model.activation}")
    filled = models.sites(network)
    for block, number, site, layer in filled:
        print(f"block {number} ({block})  site {site}: {layer}")
    if not filled:
        print("no site is filled")
    print(network)


def admit(config: Path, arch: str, variant: str, dataset: str) -> None:
    content = configuration.load(config)
    model, source = resolve.model_of(content, arch, variant), _dataset(content, dataset)

    from bench import models
    from bench.dp import admission, gradients

    channels, size, engine = len(source["mean"]), source["image_size"], content["machine"]["engine"]
    network = models.build(model, channels, 10)
    models.check_logits(model, network, (channels, size, size), 10)
    error = admission.admit(network, (channels, size, size), gradients.ENGINES[engine])
    print(f"{arch} {variant}: admitted; no output depends on another sample, and the clipped gradient sum of engine {engine}")
    print(f"is that of autograd up to {error:.1e} of its length (float64)")


def epsilon(config: Path, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> None:
    from bench.dp import accounting

    spent, found, refused = (noise_multiplier, sample_rate, steps, delta), {}, {}
    for name, accountant in accounting.ACCOUNTANTS.items():
        try:
            found[name] = accountant(*spent)
        except accounting.Beyond as error:
            refused[name] = error
    if not found:
        raise BenchError("; ".join(str(error) for error in refused.values()))
    for name, value in found.items():
        print(f"{name.upper()}  epsilon {value:.8f}  delta {delta:g}")
    for error in refused.values():
        print(error)
    smallest = min(found, key=found.get)
    if len(set(found.values())) > 1:
        print(f"Both are upper bounds, so the smaller counts: epsilon {found[smallest]:.8f}, by {smallest.upper()}.")
    if "pld" in found:
        more = accounting.ledger(*spent)
        print(f"mu of Gaussian DP {more['mu']:.4f}, regret {more['mu_regret']:.4f}")
        print(f"Any membership test with 1 % false positives detects at most {100 * more['tpr_at_1_percent_fpr']:.2f} %.")


def dataset(config: Path, name: str, out: Path | None) -> None:
    content = configuration.load(config)
    text = datasets.text(_load(content, name).describe())
    if out is None:
        print(text, end="")
    else:
        records.write_changed(text, out)


def calibrate(config: Path, recipe: str, epsilon: float, out: Path | None) -> None:
    content = configuration.load(config)
    if recipe not in content["recipes"]:
        raise BenchError(f"unknown recipe {recipe!r}{configuration.did_you_mean(recipe, content['recipes'])}")
    candidates = [run for run in _unique(resolve.studies_of(content)) if run.recipe_name == recipe and run.epsilon == epsilon]
    if not candidates:
        raise BenchError(
            f"no study trains recipe {recipe!r} at epsilon {spec.epsilon_text(epsilon)}; see `{command('check')}`"
        )

    from bench.dp.accounting import word_on_delta
    from bench.training import noise

    size = len(_load(content, candidates[0].recipe["dataset"]).train_labels)
    word = word_on_delta(candidates[0].recipe["delta"], size)
    if word:
        print(f"recipe {recipe}: {word}", file=sys.stderr)
    _write(noise.facts(candidates[0], size), out)


def train(
    config: Path,
    run: str | None,
    run_json: str | None,
    study: str | None,
    epsilon: float | None,
    noise: Path | None,
    out: Path | None,
    stop_after: float | None,
) -> int:
    content = configuration.load(config)
    if (epsilon is not None and study is None) or (study is not None and (noise or out)):
        raise BenchError("--epsilon goes with --study, --noise and --out with a single run")
    if run_json is not None:
        chosen = [spec.Run.from_json(run_json)]
        _dataset(content, chosen[0].recipe["dataset"])
    elif study is not None:
        chosen = [item for item in resolve.study_of(content, study).runs if epsilon in (None, item.epsilon)]
        if not chosen:
            raise BenchError(f"study {study} has no runs at epsilon {spec.epsilon_text(epsilon)}")
    else:
        known = {item.id: item for item in _unique(resolve.studies_of(content))}
        if run not in known:
            raise BenchError(f"unknown run {run!r}{configuration.did_you_mean(run, known)}; `{command('runs')}` lists them")
        chosen = [known[run]]

    from bench.training import runner

    stop = runner.Stop(stop_after)
    # seed by seed, so that pairs are complete early
    order = slurm.own_first(sorted(chosen, key=lambda item: item.seed))
    return runner.train_runs(order, content, stop, missing_only=study is not None, noise=noise, out=out)


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
    runs = list(resolve.study_of(content, study).runs)
    matching, missing = reference.of(runs)
    here = {run.id for run in runs if run.path.exists()}
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
        other = [
            run
            for run, record in back.items()
            if record["data"]["name"] == name and datasets.differs(record, datasets.digest_of(name))
        ]
        if other:
            raise BenchError(
                f"{name}: {len(other)} committed runs were {records.OTHER_DATA}, {other[0]} for one; none was put back"
            )
    for run in {(run.recipe_name, run.epsilon): run for run in runs if run.id in back}.values():
        path = Path("results/noise", run.recipe_name, f"eps{spec.epsilon_text(run.epsilon)}.json")
        if not path.exists():
            calibrate(config, run.recipe_name, run.epsilon, path)
    for run in runs:
        if run.id in back:
            records.write(back[run.id], run.path)
    left = sum(run.id not in back and run.id not in here for run in runs)
    print(f"{study}: {len(back)} records put back, {len(here)} were here, {left} of {len(runs)} runs are missing")


def provenance(config: Path) -> None:
    _write(machine.provenance(), None)


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


def _dataset(content: dict, name: str) -> dict:
    if name not in content["datasets"]:
        raise BenchError(f"unknown dataset {name!r}{configuration.did_you_mean(name, content['datasets'])}")
    return content["datasets"][name]


def _load(content: dict, name: str):
    spec = _dataset(content, name)

    from bench import data

    return data.load(name, spec)


def _unique(studies: dict) -> list[spec.Run]:
    return list({run.id: run for study in studies.values() for run in study.runs}.values())


def _write(content: dict, out: Path | None) -> None:
    safe = {key: str(value) if isinstance(value, float) and math.isinf(value) else value for key, value in content.items()}
    text = json.dumps(safe, indent=1, sort_keys=True) + "\n"
    if out is None:
        print(text, end="")
    else:
        records.write_text(text, out)
