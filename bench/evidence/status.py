"""Where the studies stand: what is finished, running, failed and waiting, and how long the rest takes, read from files."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError
from bench.evidence import datasets, live, records
from bench.plan.spec import Run, Study

LOGS = Path("results/logs/runs")
STATES = ("done", "running", "failed", "waiting")
FACTS = ("step", "steps", "epsilon", "accuracy", "seconds", "seconds_left", "host", "pid", "updated")


@dataclass(frozen=True)
class Finished:
    """What is kept of a record that matches its run."""

    status: str
    accuracy: float | None
    seconds: float


class Watcher:
    """Looks again and again at the files of some studies' runs; a record is read again only when its file has changed."""

    def __init__(self, studies: Iterable[Study]):
        self.studies = list(studies)
        self.runs = {run.id: run for study in self.studies for run in study.runs}
        self.finished: dict[str, Finished] = {}  # by run id
        self._damaged: dict[str, str] = {}
        self._stamps: dict[str, tuple] = {}

    def look(self) -> dict:
        """What there is now, ready for JSON: `studies`, `all`, `running`, `failed`, `stopped`; see `bench status --help`."""
        digests = {name: datasets.digest_of(name) for name in {run.recipe["dataset"] for run in self.runs.values()}}
        for run in self.runs.values():
            self._read(run, digests[run.recipe["dataset"]])
        said = live.read(run for run in self.runs.values() if run.id not in self.finished)
        said |= {name: {"state": "failed", "reason": reason} for name, reason in self._damaged.items()}
        running = sum(facts["state"] == "running" for facts in said.values())
        typical = _typical(self.runs, self.finished, said)
        rows = [{"study": study.name} | self._count(study.runs, said, typical, running) for study in self.studies]
        return {
            "studies": rows,
            "all": self._count(self.runs.values(), said, typical, running),
            "running": [{"run": name} | _facts(said[name], FACTS) for name in self._in("running", said)],
            "failed": [
                {"run": name} | _facts(said[name], ("reason",)) | {"log": _log(name)} for name in self._in("failed", said)
            ],
            "stopped": [
                {"run": name} | _facts(said[name], ("step", "steps", "reason")) for name in self._in("stopped", said)
            ],
        }

    def stamp(self, run_id: str) -> tuple | None:
        """What changes when the run's record does, or the data that it is to be made from; None where there is none."""
        return self._stamps.get(run_id)

    def _read(self, run: Run, digest: str | None) -> None:
        try:
            stat = run.path.stat()
        except OSError:
            self._forget(run)
            return
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino, digest
        if self._stamps.get(run.id) == stamp:
            return
        self._forget(run)
        self._stamps[run.id] = stamp
        try:
            record = records.read(run.path)
        except BenchError as error:
            self._damaged[run.id] = str(error)
            return
        if records.matches(record, run) and not datasets.differs(record, digest):
            result, cost = record["result"], record["cost"]
            self.finished[run.id] = Finished(record["status"], result["accuracy"], cost["seconds"])

    def _forget(self, run: Run) -> None:
        for known in (self.finished, self._damaged, self._stamps):
            known.pop(run.id, None)

    def _in(self, state: str, said: dict) -> list[str]:
        return [name for name in self.runs if name in said and said[name]["state"] == state]

    def _count(self, runs: Iterable[Run], said: dict, typical: dict, running: int) -> dict:
        counts = dict.fromkeys(STATES, 0)
        diverged, work, longest = 0, 0.0, 0.0
        for run in runs:
            facts = said.get(run.id, {})
            state = "done" if run.id in self.finished else facts.get("state", "waiting").replace("stopped", "waiting")
            counts[state] += 1
            if state == "done":
                diverged += self.finished[run.id].status == "diverged"
            elif state != "failed":
                left = facts.get("seconds_left")
                left = typical.get(run.id) if left is None else left
                work = None if left is None or work is None else work + left
                if state == "running" and left is not None:
                    longest = max(longest, left)
        left = None if work is None else max(work / max(1, running), longest)
        return {"total": sum(counts.values())} | counts | {"diverged": diverged, "seconds_left": left}


def _typical(runs: dict[str, Run], finished: dict[str, Finished], said: dict[str, dict]) -> dict[str, float]:
    """Seconds that a run takes, by id; runs of which nothing is known are left out.

    The median of the finished runs of its recipe, arch and kind of epsilon, or else of its recipe and arch, or else what
    the first ones that are running expect.
    """
    times: dict[tuple, list[float]] = {}
    expected: dict[tuple, list[float]] = {}
    keys = {name: (run.recipe_name, run.arch, math.isfinite(run.epsilon)) for name, run in runs.items()}
    for name, done in finished.items():
        if done.status == "completed":
            for key in (keys[name], keys[name][:2]):
                times.setdefault(key, []).append(done.seconds)
    for name, facts in said.items():
        if keys[name][:2] not in times and None not in (facts.get("seconds"), facts.get("seconds_left")):
            for key in (keys[name], keys[name][:2]):
                expected.setdefault(key, []).append(facts["seconds"] + facts["seconds_left"])
    medians = {key: statistics.median(values) for key, values in (expected | times).items()}
    both = {name: medians.get(key, medians.get(key[:2])) for name, key in keys.items()}
    return {name: seconds for name, seconds in both.items() if seconds is not None}


def _facts(said: dict, names: tuple[str, ...]) -> dict:
    """The facts of `names`; None where nothing is said. JSON has no infinity: as in records it is the text 'inf'."""
    return {name: _plain(said.get(name)) for name in names}


def _log(run_id: str) -> str | None:
    """Where Snakemake's rule `train` keeps what the run printed; None for a run that was started by hand."""
    path = LOGS / f"{run_id}.log"
    return str(path) if path.exists() else None


def _plain(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
