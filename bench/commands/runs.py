"""Verbs up to a run's record: what is planned, what a network is, what a budget costs, training."""

import json
import math
import sys
from pathlib import Path

from bench import ROOT, BenchError, machine, plugins, terminal
from bench.evidence import datasets, records
from bench.machine import slurm
from bench.plan import config as configuration
from bench.plan import resolve, spec
from bench.plan.datasets import TRAIN_SIZES
from bench.terminal import command

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
            memories[study.name] = estimate.gpu_memory(study, missing, measured, terminal.say_for_now)
        else:
            about = terminal.duration(
                estimate.seconds_left(study, everything, missing, content["machine"], speeds, terminal.say_for_now)
            )
        memory = _gib(memories[study.name][0]) if study.name in memories else ""
        rows.append((study.name, str(len(study.runs)), str(len(found)), here, about, memory, study.question))
    terminal.say_for_now("")
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


def provenance(config: Path) -> None:
    _write(machine.provenance(), None)


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
