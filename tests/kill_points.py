"""Faults at random moments of a tiny study: is anything half-written ever read, and are the final records the same?

    python -m tests.kill_points --points 100 --seed 0 --csv results/reference/kill-points.csv

A point is a folder of its own in which one process, which trains all runs of the study one after another and saves its state
after every step, meets one fault: SIGKILL or SIGTERM at a random moment, SIGKILL before or after a random rename, a rename
that fails, a disk that is full for a while, a clock that jumps. Then all that was left is read, and a second process goes on
to the end. It prints how many of the points ended in the records of an uninterrupted process.
"""

import argparse
import contextlib
import csv
import errno
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import sklearn.datasets  # what every process would import, here once  # noqa: F401
import torch
import torch._dynamo
import yaml

from bench import ROOT, data
from bench.__main__ import main as bench
from bench.evidence import kept, live, records, shape
from bench.plan import config, resolve
from bench.training import checkpoint
from bench.training.checkpoint import Checkpoint
from bench.training.recipe import noise_of

KINDS = ("SIGKILL", "SIGTERM", "killed at a rename", "failed rename", "full disk", "clock jump")
SPACE = 3 * 2**20  # bytes of the small disk
# A disk in memory: the faults are those of processes, and nobody waits for a platter.
MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
FORK = multiprocessing.get_context("fork")  # no second import of torch


@dataclass
class Point:
    """A fault and what came of it; `moment` in seconds from the start of training, or which rename."""

    point: int
    kind: str
    moment: float
    exit_code: int = 0
    finished_before: int = 0  # records that stood after the fault
    states_left: int = 0  # checkpoints likewise
    equal: bool = False
    problem: str = ""


def write_study(folder: Path) -> None:
    """Two seeds at two epsilons, of four steps each, on a network of two channels: whose numbers they are does not matter."""
    content = config.load(ROOT / "config.yaml", local=False)
    content["recipes"]["digits"] |= {"batch_size": 16, "steps": 4, "evaluate_every": 2, "ema": 0.9}
    content["archs"] = {"resnet9-w2": {"family": "resnet9", "width": 2, "norm": {"groups": 2}}}
    content["machine"] |= {"device": "cpu", "checkpoint_minutes": 0}
    content["studies"] = {"quick": content["studies"]["quick"] | {"archs": ["resnet9-w2"], "variants": ["scalenorm"]}}
    content["studies"]["quick"] |= {"epsilons": [8, math.inf], "seeds": 2}
    content["claims"] = {}
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def numbers(record: dict) -> str:
    """All of a record but times and what the machine was doing."""
    return json.dumps(
        {key: record[key] for key in ("status", *shape.SECTIONS) if key not in ("cost", "machine", "provenance")}
    )


class Study:
    """The study in a folder, and what the records of an uninterrupted process are."""

    def __init__(self, folder: Path):
        self.folder = folder
        write_study(folder)
        self.runs = resolve.studies_of(config.load(folder / "config.yaml"))["quick"].runs
        for run in self.runs:  # computed once, before the fork
            noise_of(run, 1437)
        started = time.monotonic()
        process, _ = start(folder)
        process.join()
        self.seconds = time.monotonic() - started
        with contextlib.chdir(folder):
            self.whole = {run.id: numbers(records.read(run.path)) for run in self.runs}
        self.renames = int((folder / "renames").read_text())

    def read_all(self) -> tuple[int, int]:
        """(records, checkpoints) in the working directory; AssertionError for one that is not whole or has other numbers."""
        found, _ = records.collect(list(self.runs))
        known = [kept.path_of(run.id) for run in self.runs if kept.path_of(run.id).exists()]
        for record in [*found, *map(records.read, known)]:
            assert numbers(record) == self.whole[record["run"]["id"]], f"{record['run']['id']}: other numbers"
        live.read(self.runs)
        for path in [*Path("results").rglob("*.json"), *Path("data").rglob("*.json")]:
            json.loads(path.read_text(encoding="utf-8"))
        for path in data.CACHE.glob("*.pt"):
            assert data._cached(path) is not None, f"{path}: half-written"
        states = list(checkpoint.FOLDER.glob("*.pt"))
        entry = config.load()["datasets"]["digits"]
        if states:
            digest = data.load("digits", entry).digest
            mine = [Checkpoint(run, noise_of(run, 1437)["noise_multiplier"], digest=digest) for run in self.runs]
            whole = [one.path for one in mine if one.path.exists() and one.load() is not None]
            assert sorted(whole) == sorted(states), "a state that is damaged"
        return len(found), len(states)

    def ends_equal(self) -> None:
        """AssertionError unless all records stand, with the uninterrupted process' numbers, and nothing is left."""
        assert self.read_all() == (len(self.runs), 0)
        left = [
            path for path in Path().rglob("*") if path.suffix in (".partial", ".lock") or path.is_relative_to(live.FOLDER)
        ]
        assert not [path for path in left if path.is_file()], f"left behind: {left}"


def start(folder: Path, fault=None) -> tuple[multiprocessing.Process, Path]:
    """A process that trains the study, and the file with all that it says; `fault` is called in it first."""
    log = folder.with_suffix(".log")
    process = FORK.Process(target=_train, args=(folder, log, fault))
    process.start()
    return process, log


def _train(folder: Path, log: Path, fault) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(folder)
    count, replace = [0], Path.replace

    def counted(path, target):
        count[0] += 1
        return fault(count[0], lambda: replace(path, target)) if callable(fault) else replace(path, target)

    Path.replace = counted
    code = 1
    try:
        if isinstance(fault, dict):
            _jump(**fault)
        code = bench(["train", "--study", "quick"])
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        Path("renames").write_text(str(count[0]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _jump(after: int, seconds: float) -> None:
    """From the call `after` on the wall clock is `seconds` ahead, or behind; the others, which only rise, lose a while."""
    for name in ("time", "monotonic", "perf_counter"):
        real, count = getattr(time, name), [0]
        shift = seconds if name == "time" else abs(seconds)

        def moved(real=real, count=count, shift=shift):
            count[0] += 1
            return real() + (shift if count[0] > after else 0)

        setattr(time, name, moved)


def at_rename(number: int, before: bool):
    """A fault: SIGKILL before or after the rename of this number."""

    def fault(count: int, rename):
        if count == number and before:
            os.kill(os.getpid(), signal.SIGKILL)
        done = rename()
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return fault


def failing(number: int):
    """A fault: the rename of this number fails."""

    def fault(count: int, rename):
        if count == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename()

    return fault


@contextlib.contextmanager
def small_disk(folder: Path):
    """Mounts a disk of SPACE at `folder`, where this user may; whether it could."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "none", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leaves no byte free on the small disk."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**12))
    return path


def full_for_writes(first: int, last: int):
    """A fault, where nothing may be mounted: the writes of these numbers find the disk full half-way."""
    count, real = [0], Path.open

    def opened(path, mode="r", *more, **options):
        file = real(path, mode, *more, **options)
        if "w" in mode:
            count[0] += 1
            if first <= count[0] <= last:
                file.write(b"half" if "b" in mode else "half")
                file.close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return file

    def fault(_, rename):
        Path.open = opened
        return rename()

    return fault


def meet(point: Point, chance: random.Random, study: Study, folder: Path, mounted: bool) -> None:
    """One process in `folder` meets the fault of `point`."""
    fault = None
    if point.kind == "killed at a rename":
        fault = at_rename(int(point.moment), chance.random() < 0.5)
    elif point.kind == "failed rename":
        fault = failing(int(point.moment))
    elif point.kind == "clock jump":
        fault = {"after": int(point.moment), "seconds": chance.choice([-1, 1]) * 10 ** chance.uniform(2, 8)}
    elif point.kind == "full disk" and not mounted:
        fault = full_for_writes(int(point.moment), int(point.moment) + chance.randrange(1, 20))
    process, log = start(folder, fault)
    if point.kind in ("SIGKILL", "SIGTERM") or (point.kind == "full disk" and mounted):
        process.join(point.moment)
        if point.kind == "full disk":
            filler = fill(folder)
            process.join(chance.choice([0.1, 1, 60]) * study.seconds)
            filler.unlink()
        elif process.is_alive():
            os.kill(process.pid, getattr(signal, point.kind))
    process.join()
    point.exit_code = process.exitcode
    said = log.read_text() if log.exists() else ""  # killed before its first word
    assert "Traceback" not in said, said


def examine(number: int, seed: int, study: Study, kinds: tuple[str, ...] = KINDS) -> Point:
    """The point of this number: its fault is a function of (seed, number), its moment also of how long the study takes."""
    chance = random.Random(f"{seed} {number}")
    kind = kinds[number % len(kinds)]
    with tempfile.TemporaryDirectory(prefix="kill-point-", dir=MEMORY) as place:
        folder = Path(place) / "study"
        folder.mkdir()
        with small_disk(folder) if kind == "full disk" else contextlib.nullcontext(False) as mounted:
            moment = round(chance.uniform(0, study.seconds), 3)
            if "rename" in kind or (kind == "full disk" and not mounted):
                moment = chance.randrange(1, study.renames + 1)
            elif kind == "clock jump":
                moment = chance.randrange(200)
            point = Point(number, kind, moment)
            write_study(folder)
            try:
                with contextlib.chdir(folder):
                    meet(point, chance, study, folder, mounted)
                    point.finished_before, point.states_left = study.read_all()
                    process, log = start(folder)
                    process.join()
                    assert process.exitcode == 0, log.read_text()
                    study.ends_equal()
                point.equal = True
            except Exception as error:
                point.problem = f"{type(error).__name__}: {error}"
    return point


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kill-points-", dir=MEMORY) as place:
        folder = Path(place) / "whole"
        folder.mkdir()
        study, points = Study(folder), []
        for number in range(options.points):
            points.append(examine(number, options.seed, study))
            if not points[-1].equal:
                print(points[-1], flush=True)
    equal = sum(point.equal for point in points)
    print(f"{equal} of {len(points)} points ended in the records of the uninterrupted process; seed {options.seed}")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(asdict(points[0])), lineterminator="\n")
            table.writeheader()
            table.writerows(map(asdict, points))
    return int(equal < len(points))


if __name__ == "__main__":
    sys.exit(main())
