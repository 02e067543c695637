"""Training at this machine: one run or all that are missing, with checkpoint, lock, GPU, live line and provenance."""

import functools
import math
import os
import shlex
import signal
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench import BenchError, data, machine
from bench.evidence import records
from bench.plan.spec import Run
from bench.training import lease, loop
from bench.training.checkpoint import Checkpoint
from bench.training.recipe import noise_of

STOPPED = 75  # EX_TEMPFAIL: try again; Snakemake's --retries and Slurm do
INTERRUPTED = 130


class Stop:
    """Says, when called, whether to stop: `seconds` are over, or SIGTERM or Ctrl-C came (a second Ctrl-C does not wait)."""

    def __init__(self, seconds: float | None):
        self.deadline = math.inf if seconds is None else time.monotonic() + seconds
        self.asked = self.interrupted = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame) -> None:
        self.asked, self.interrupted = True, number == signal.SIGINT
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self) -> bool:
        return self.asked or time.monotonic() > self.deadline

    @property
    def code(self) -> int:
        """Exit code of a process that was stopped."""
        return INTERRUPTED if self.interrupted else STOPPED


def train_runs(
    runs: list[Run], content: dict, stop: Stop, *, missing_only: bool, sigma: float | None = None, out: Path | None = None
) -> int:
    """Trains `runs` one after another and writes their records; an exit code, 0 unless `stop` said so.

    With `missing_only` those that have a matching record, or that another process is training, are left out, so that several
    processes can share the work. Otherwise BenchError when another process trains the very same run.
    """
    load = functools.cache(lambda name: data.load(name, content["datasets"][name]))
    noises: dict[tuple, float] = {}  # (recipe, epsilon) -> noise multiplier: PLD takes half a minute to find one
    # of the code that was imported, whatever happens to the files meanwhile
    (commit, dirty), digest = machine.commit(), machine.source_digest()
    with _gpu(content["machine"]):
        for run in runs:
            if missing_only and (_done(run) or stop()):
                continue
            started = _now()
            dataset = load(run.recipe["dataset"])
            budget = run.recipe_name, run.epsilon
            if sigma is None and budget not in noises:
                noises[budget] = noise_of(run, len(dataset.train_labels))["noise_multiplier"]
            checkpoint = Checkpoint(run, noise := noises[budget] if sigma is None else sigma)
            with checkpoint.lock() as mine:
                if missing_only and (not mine or _done(run)):
                    continue
                if not mine:
                    raise BenchError(f"{run.id}: another process trains it; wait for that one, or stop it")
                try:
                    record = loop.train(run, dataset, noise, content["machine"], _show(run.id), checkpoint, stop)
                except loop.Stopped as stopped:
                    print(f"{run.id}: {stopped}", file=sys.stderr)
                    return stop.code
                record["provenance"] = {
                    "commit": commit,
                    "dirty": dirty,
                    "source_digest": digest,
                    "command": f"python -m bench train {shlex.quote(run.id)}",
                    "started": started,
                    "finished": _now(),
                }
                records.write(record, out or run.path)
                checkpoint.delete()
            result, seconds = record["result"], record["cost"]["seconds"]
            outcome = f"{result['accuracy']:.2f} %" if record["status"] == "completed" else f"diverged, {result['reason']}"
            print(f"{run.id}: {outcome} after {seconds:.0f} s", flush=True)
    left = sum(not _done(run) for run in runs) if missing_only else 0
    if left and stop():
        print(f"{left} of {len(runs)} runs are left; the same command goes on", file=sys.stderr)
        return stop.code
    return 0


def _done(run: Run) -> bool:
    return run.path.exists() and records.matches(records.read(run.path), run)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _gpu(settings: dict):
    """Leases the GPU of a run that uses one, and shows this process no other. To be entered before torch asks CUDA."""
    if not machine.uses_gpu(settings):
        yield
        return
    with lease.gpu(settings["runs_per_gpu"]) as name:
        if name is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = name
        yield


def _show(name: str):
    """A live line on a terminal, a line per evaluation elsewhere."""
    live = sys.stderr.isatty()

    def show(progress) -> None:
        if not live and progress.accuracy is None:
            return
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        line = (
            f"{name}  step {progress.step}/{progress.steps}  eps {progress.epsilon:.3g}  "
            f"loss {progress.train_loss:.3f}  {progress.images_per_second:.0f} img/s  {minutes}:{seconds:02d} left"
        )
        if progress.accuracy is not None:
            line += f"  test {progress.accuracy:.2f} %"
        print(f"\r\033[K{line}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
        if live and progress.step == progress.steps:
            print(file=sys.stderr)

    return show
