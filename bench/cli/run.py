"""`bench run`: Snakemake does the work, and this shows in a line each what it is about."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench import ROOT, BenchError, machine
from bench.cli import progress, snakemake
from bench.cli.drawing import failed_lines
from bench.commands.results import REPORT
from bench.evidence.live import DIED
from bench.evidence.status import Watcher
from bench.plan import config as configuration
from bench.plan import resolve
from bench.plan.config import did_you_mean, names_asked
from bench.plan.spec import Run, Study
from bench.terminal import command, has_colour, paint, width_of

CONFIG = Path("config.yaml")
STOPPED, INTERRUPTED = 75, 130


def run(config: Path, targets: tuple[str, ...], cores: str, settings: tuple[str, ...], more: list[str]) -> int:
    """Exit code 0, 1, or what a signal makes of it; BenchError where the configuration or a target is refused."""
    if config != CONFIG:
        raise BenchError(f"--config {config}: the pipeline reads {CONFIG} of the working directory; change to its folder")
    content = configuration.load(config)
    studies = resolve.studies_of(content)
    asked = runs_asked(studies, targets, [*settings, *_config_of(more)], machine.uses_gpu(content["machine"]))
    line = snakemake.arguments(cores, list(targets), list(settings), more)
    if snakemake.answers(more):
        return min(1, abs(subprocess.run(line, check=False).returncode))
    watcher = Watcher([Study(name="asked", question="", without_gpu="run", runs=tuple(asked))])
    watcher.look()
    before, started = {name: watcher.stamp(name) for name in watcher.finished}, time.time()
    with snakemake.Process(line) as process, progress.on(sys.stdout) as shown:
        output, told = snakemake.Output(), False
        trained: set[str] = set()
        while True:
            ended = process.code is not None  # asked first: what it has left is read after its end
            state = watcher.look()
            output.read()
            for name in _news(watcher, before, trained):
                trained.add(name)
                shown.line(progress.finished_line(name, watcher.finished[name], width_of(sys.stdout), has_colour(sys.stdout)))
            if process.asked and not told:
                told = True
                shown.line("Stopping: the runs save their state. A second Ctrl-C does not wait for that.")
            if ended:
                break
            shown.show(state, output.doing)
            time.sleep(shown.every)
    return _end(process, output, state, trained, targets, started)


def runs_asked(studies: dict[str, Study], targets: tuple[str, ...], settings: list[str], gpu: bool) -> list[Run]:
    """The runs that `targets` of Snakemake stand for, each once; BenchError for a target or study that does not exist."""
    rules = set()
    for path in (ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")):
        rules |= set(re.findall(r"^rule (\w+):", path.read_text(), re.M))
    selected = [name for name, study in studies.items() if gpu or study.without_gpu == "run"]
    for setting in settings:
        key, _, value = setting.partition("=")
        if key != "studies":
            raise BenchError(f"--config {setting}: only studies=NAME,NAME; everything else stands in {CONFIG}")
        selected = names_asked(value)
        for name in selected:
            if name not in studies:
                raise BenchError(f"--config studies: unknown study {name!r}{did_you_mean(name, studies)}")
    by_path = {str(item.path): item for study in studies.values() for item in study.runs}
    asked: list[Run] = []
    for target in targets or ("all",):
        if target in studies:
            asked += studies[target].runs
        elif target in by_path:
            asked.append(by_path[target])
        elif target == "all":
            asked += [item for name in selected for item in studies[name].runs]
        elif target == "verify" and "quick" in studies:
            asked += studies["quick"].runs
        elif target not in rules and not re.search(r"[/.]", target):
            raise BenchError(f"unknown target {target!r}{did_you_mean(target, [*studies, *rules])}")
    return list({item.id: item for item in asked}.values())


def _config_of(more: list[str]) -> list[str]:
    """What follows --config among Snakemake's options."""
    if "--config" not in more:
        return []
    behind = more[more.index("--config") + 1 :]
    return behind[: next((i for i, word in enumerate(behind) if word.startswith("-")), None)]


def _news(watcher: Watcher, before: dict, trained: set[str]) -> list[str]:
    """Runs that have got a record since the start and are not told yet, in the order of their records."""
    new = [name for name in watcher.finished if name not in trained and watcher.stamp(name) != before.get(name)]
    return sorted(new, key=watcher.stamp)


def _end(process, output, state: dict, trained: set[str], targets: tuple[str, ...], started: float) -> int:
    """Says what was made and what was not; the exit code."""
    colour, width = has_colour(sys.stdout), width_of(sys.stdout)
    for target in targets:  # `verify`, say, whose answer is in its log
        log = Path(f"results/logs/{target}.log")
        if log.exists() and log.stat().st_mtime >= started - 1 and log.read_text().strip():
            print(log.read_text().strip())
    failed = [] if process.asked else _failed(output, state)
    if trained or failed:
        print(f"{len(trained)} {'run' if len(trained) == 1 else 'runs'} trained, {len(failed)} failed")
    if process.code == 0:
        if output.nothing_to_do:
            print("Nothing to be done: what was asked for is there and up to date")
        elif not trained and state["all"]["total"]:
            print("No run was missing; what is made of them was made again")
        if REPORT.exists():
            print(f"Report: {REPORT}; `{command('open')}` shows it")
        return 0
    if process.asked:
        left = state["all"]["waiting"] + state["all"]["running"]
        print(f"Stopped; {left} of {state['all']['total']} runs are left, and the same command goes on", file=sys.stderr)
        return INTERRUPTED if process.asked == signal.SIGINT else STOPPED
    if failed:
        print(paint(f"{len(failed)} failed", "red", colour), file=sys.stderr)
        print("\n".join(failed_lines(failed, width)), file=sys.stderr)
    elif state["stopped"]:
        print(f"{len(state['stopped'])} runs were stopped; the same command goes on", file=sys.stderr)
    else:
        print(output.sentence(), file=sys.stderr)
    print(f"All that Snakemake said: {snakemake.LOG}", file=sys.stderr)
    return 1


def _failed(output, state: dict) -> list[dict]:
    """Runs that say so themselves and, of Snakemake's jobs, the others that failed."""
    failed = {item["run"]: item for item in state["failed"]}
    stopped = {item["run"] for item in state["stopped"] if item["reason"] != DIED}
    for job in output.failures():
        name = job["output"].removeprefix("results/runs/").removesuffix(".json") if job["rule"] == "train" else ""
        if name in stopped or Path(job["output"] or "-").exists():  # it goes on later, or did on a second try
            continue
        shown = name or f"{job['rule']} {job['output']}".strip()
        failed[shown] = {"run": shown, "log": job["log"], "reason": job["reason"]} | {
            key: value for key, value in failed.get(shown, {}).items() if value
        }
    return list(failed.values())
