"""One GPU of several for one process. Snakemake counts GPUs but gives out no ids, so the runs settle it by lock files."""

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from bench import BenchError
from bench.machine import gpus

POLL = 0.5  # seconds between two looks at the locks while all are taken
# What Slurm, LSF, PBS, SGE and Flux call a job: variables that all are set in each, with the place in an array where need be.
JOBS = (("SLURM_JOB_ID",), ("LSB_JOBID", "LSB_JOBINDEX"), ("PBS_JOBID",), ("JOB_ID", "SGE_TASK_ID"), ("FLUX_JOB_ID",))


@contextmanager
def gpu(runs_per_gpu: int) -> Iterator[str | None]:
    """The id of a GPU that fewer than `runs_per_gpu` runs hold, leased until exit; waits while there is none.

    Of those it is the one with the fewest runs. The runs of all users of a machine count that have one TMPDIR. The kernel
    frees a lock with its process, however that ends. None where there is nothing to settle: no id is known, or a scheduler
    gave its job one GPU. BenchError where the lock files cannot be written.
    """
    ids, job = gpus.visible(), _job()
    if not ids or (job and len(ids) == 1):
        yield None
        return
    # a scheduler's job may number its own GPUs from 0, or share one by its rules: locks of one job say nothing to another
    folder = Path(tempfile.gettempdir()) / f"scalenorm-bench{f'-job{job}' if job else ''}"
    try:
        _make(folder)
        name, lock = _least_used(folder, ids, runs_per_gpu)
    except OSError as error:
        raise BenchError(f"{folder}: no lock files there ({error}); set TMPDIR to a folder of yours") from None
    with lock:
        yield name


def _job() -> str:
    """What tells this scheduler's job from others on its machine; '' outside of jobs."""
    ids = ([os.environ.get(name, "") for name in names] for names in JOBS)
    return next(("-".join(job).replace("/", "-") for job in ids if all(job)), "")


def _least_used(folder: Path, ids: list[str], runs_per_gpu: int) -> tuple[str, BinaryIO]:
    """(id, its open and locked file) of the GPU with the most free slots, however long it takes until one has any."""
    waited = False
    while True:
        with _lock(folder / "choosing.lock", wait=True):  # else two that look at once take all from each other
            free = {name: _free(folder, name, runs_per_gpu) for name in ids}
            best = max(ids, key=lambda name: len(free[name]))
            found = free[best].pop(0) if free[best] else None
            for locks in free.values():
                for lock in locks:
                    lock.close()
        if found:
            return best, found
        if not waited:
            print(f"waiting for a GPU: all locks in {folder} are taken", file=sys.stderr, flush=True)
            waited = True
        time.sleep(POLL)


def _free(folder: Path, name: str, slots: int) -> list[BinaryIO]:
    """Locks that were free of the `slots` of GPU `name`; now they are taken."""
    locks = [_lock(folder / f"gpu-{name.replace('/', '-')}-{slot}.lock") for slot in range(slots)]
    return [lock for lock in locks if lock]


def _lock(path: Path, wait: bool = False) -> BinaryIO | None:
    """The file, locked and open until it is closed; None where another process has it."""
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file


def _open(path: Path) -> BinaryIO:
    """An empty file that every user may lock, made where there is none."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:  # without O_CREAT, which Linux refuses for others' files in a shared folder (fs.protected_regular)
            return os.fdopen(os.open(path, flags), "rb")
        except FileNotFoundError:
            with suppress(FileExistsError), _for_all_users():  # made by another process just now
                return os.fdopen(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), "rb")


def _make(folder: Path) -> None:
    with _for_all_users():
        folder.mkdir(mode=0o1777, exist_ok=True)


@contextmanager
def _for_all_users() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
