"""Training at this machine: one run or all that are missing, with checkpoint, lock, GPU, live line and provenance."""

import contextlib
import functools
import math
import os
import shlex
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from bench import BenchError, data, files, machine, plugins, source, terminal
from bench.evidence import datasets, kept, live, records
from bench.plan.spec import Run
from bench.training import lease, loop, noise
from bench.training.checkpoint import Checkpoint
from bench.training.recipe import noise_of

STOPPED = 75  # EX_TEMPFAIL: try again; Snakemake's --retries and Slurm do
INTERRUPTED = 130
SAY_EVERY = 2.0  # seconds between two files for `status`
WIDE = 200  # columns of a line in a file


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
    runs: list[Run], content: dict, stop: Stop, *, missing_only: bool, noise: Path | None = None, out: Path | None = None
) -> int:
    """Trains `runs` one after another and writes their records; an exit code, 0 unless `stop` said so or a run failed.

    With `missing_only` those that have a matching record, or that another process is training, are left out, so that several
    processes can share the work, and a run that fails does not keep the others from training. Otherwise a run that another
    process trains is waited for. A record that Snakemake deleted after its run had ended is put back from where it was kept.
    `noise` is a file of `calibrate`; one that was made for another budget or another number of samples is refused.
    """
    session = _Session(content, stop, noise)
    failed = []
    with session:
        for run in runs:
            if missing_only and session.done(run):
                session.clear(run)
                continue
            if missing_only and stop():
                continue
            try:
                ended = session.train(run, out or run.path, missing_only)
            except loop.Stopped as stopped:
                live.write(run, "stopped", reason=str(stopped))
                print(f"{run.id}: {stopped}", file=sys.stderr)
                ended = False
            except Exception as error:
                told = files.sentence(error) if isinstance(error, OSError) else None
                live.write(run, "failed", reason=told or str(error))
                if not missing_only:
                    raise
                if not (told or isinstance(error, BenchError)):
                    traceback.print_exc()
                print(f"{run.id}: failed: {told or error}", file=sys.stderr, flush=True)
                failed.append(run.id)
                continue
            if not ended:
                return stop.code
    left = sum(not session.done(run) for run in runs) if missing_only else 0
    if left and stop():
        print(f"{left} of {len(runs)} runs are left; the same command goes on", file=sys.stderr)
        return stop.code
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


class _Session(contextlib.ExitStack):
    """What the runs of one process share: data sets, noise, the code that was imported, a GPU once one is needed."""

    def __init__(self, content: dict, stop: Stop, noise: Path | None):
        super().__init__()
        self.content, self.stop, self.noise = content, stop, noise
        self.load = functools.cache(self._load)
        self.noises: dict[tuple, float] = {}  # (recipe, epsilon) -> noise multiplier, which takes a second to find
        # of the code that was imported, whatever happens to the files meanwhile
        (self.commit, self.dirty), self.digest = machine.commit(), machine.source_digest()
        self.has_gpu = False

    def train(self, run: Run, out: Path, missing_only: bool) -> bool:
        """Whether the run needs nothing more of this process; False where `stop` ended it or the wait for another one."""
        started = _now()
        with _ended_at_once():
            dataset = self.load(run.recipe["dataset"])
            sigma = self._noise(run, len(dataset.train_labels))
        checkpoint = Checkpoint(run, sigma, digest=dataset.digest)
        with checkpoint.lock(wait=None if missing_only else self.stop) as mine:
            if not mine:
                return missing_only
            if missing_only and self.done(run):
                return True
            if record := kept.recall(run, sigma, dataset.digest):
                return self._write(run, record, out, checkpoint, "finished before")
            live.write(run, "running", step=0, steps=run.recipe["steps"])
            if not self.has_gpu:
                with _ended_at_once():
                    self.enter_context(_gpu(self.content["machine"]))
                self.has_gpu = True
            watch = _Watch(run)
            try:
                record = loop.train(run, dataset, sigma, self.content["machine"], watch, checkpoint, self.stop)
            except loop.Stopped as stopped:
                live.write(run, "stopped", reason=str(stopped), **watch.facts)
                print(f"{run.id}: {stopped}", file=sys.stderr)
                return False
            record["provenance"] = {
                "commit": self.commit,
                "dirty": self.dirty,
                "source_digest": self.digest,
                "command": f"python -m bench train {shlex.quote(run.id)}",
                "started": started,
                "finished": _now(),
            } | _plugins(run)
            return self._write(run, record, out, checkpoint, f"after {record['cost']['seconds']:.0f} s")

    def done(self, run: Run) -> bool:
        """Whether the run has a record, made from its specification and from the data that its data set is now."""
        if not run.path.exists():
            return False
        record = records.read(run.path)
        return records.matches(record, run) and not datasets.differs(record, self._digest(run.recipe["dataset"]))

    def clear(self, run: Run) -> None:
        """Deletes what a process left that was killed after its record: its state, and what it said of itself."""
        if not live.path_of(run).exists():
            return
        record = records.read(run.path)
        checkpoint = Checkpoint(run, record["privacy"]["noise_multiplier"], digest=record["data"]["digest"])
        with checkpoint.lock() as mine:
            if mine:
                checkpoint.delete()
                live.delete(run)

    def _load(self, name: str) -> data.Dataset:
        """Also says, for all that read records, which data are those of now."""
        dataset = data.load(name, self.content["datasets"][name])
        records.write_changed(datasets.text(dataset.describe()), datasets.path_of(name))
        return dataset

    def _digest(self, name: str) -> str | None:
        """Of the data of now; None where nobody has looked. What is finished needs no data, and downloads none."""
        if source.may_change(self.content["datasets"][name]):
            with contextlib.suppress(BenchError):  # not on this machine any more
                return self.load(name).digest
        return datasets.digest_of(name)

    def _noise(self, run: Run, train_size: int) -> float:
        if self.noise is not None:
            return noise.read(self.noise, run, train_size)
        budget = run.recipe_name, run.epsilon
        if budget not in self.noises:
            self.noises[budget] = noise_of(run, train_size)["noise_multiplier"]
        return self.noises[budget]

    def _write(self, run: Run, record: dict, out: Path, checkpoint: Checkpoint, how: str) -> bool:
        records.write(record, kept.path_of(run.id))
        records.write(record, out)
        checkpoint.delete()
        live.delete(run)
        result = record["result"]
        outcome = f"{result['accuracy']:.2f} %" if record["status"] == "completed" else f"diverged, {result['reason']}"
        print(f"{run.id}: {outcome} {how}", flush=True)
        return True


def _plugins(run: Run) -> dict:
    """The user's code that the run used, as {reference: digest of its sources}; nothing where it used none."""
    used = [name for name in (run.model.family, run.dataset["source"]) if plugins.is_one(name)]
    return {"plugins": {name: plugins.digest(name) for name in used}} if used else {}


@contextlib.contextmanager
def _ended_at_once():
    """SIGTERM and Ctrl-C end what stands in here by loop.Stopped, in its middle: reading and calibrating lose nothing."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    before = {number: handler for number, handler in before.items() if callable(handler)}

    def end(number: int, frame) -> None:
        before[number](number, frame)
        raise _Ended

    try:
        for number in before:
            signal.signal(number, end)
        yield
    except _Ended:
        raise loop.Stopped("stopped before its first step; the same command begins it") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Ended(BaseException):
    """No Exception, which readers of foreign files catch, whatever it is."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def _gpu(settings: dict):
    """Leases the GPU of a run that uses one, and shows this process no other. To be entered before torch asks CUDA."""
    if not machine.uses_gpu(settings):
        yield
        return
    with lease.gpu(settings["runs_per_gpu"]) as name:
        if name is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = name
        yield


class _Watch:
    """Shows the progress of a run: a live line on a terminal, a line per evaluation elsewhere, and a file for `status`."""

    def __init__(self, run: Run):
        self.run, self.live, self.said = run, terminal.is_terminal(sys.stderr), -math.inf
        self.facts: dict = {}

    def __call__(self, progress: loop.Progress) -> None:
        evaluated = progress.accuracy is not None
        seen = {key: getattr(progress, key) for key in ("step", "steps", "epsilon", "seconds", "seconds_left", "accuracy")}
        self.facts |= {key: value for key, value in seen.items() if value is not None}
        if evaluated or time.monotonic() - self.said > SAY_EVERY:
            live.write(self.run, "running", **self.facts)
            self.said = time.monotonic()
        if self.live or evaluated:
            self._show(progress)

    def _show(self, progress: loop.Progress) -> None:
        facts = vars(progress) | {"run": self.run.id, "loss": progress.train_loss}
        if not self.live:
            print(terminal.run_line(facts, WIDE), file=sys.stderr, flush=True)
            return
        terminal.say_for_now(terminal.run_line(facts, terminal.width_of(sys.stderr)))
        if progress.step == progress.steps:
            print(file=sys.stderr)
