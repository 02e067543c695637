"""One GPU of several for one process. Snakemake counts GPUs but gives out no ids, so the runs settle it by lock files."""

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import BenchError, machine

POLL = 0.5  # seconds between two looks at the locks while all are taken


@contextmanager
def gpu(runs_per_gpu: int) -> Iterator[str | None]:
    """The id of a GPU that fewer than `runs_per_gpu` runs of this user hold, leased until exit; waits while there is none.

    The kernel frees the lock with the process, however it ends. None where there is nothing to settle: no id is known, or
    Slurm gave its job one GPU. BenchError where the lock files cannot be written.
    """
    ids, job = machine.gpus(), os.environ.get("SLURM_JOB_ID")
    if not ids or (job and len(ids) == 1):
        yield None
        return
    # a Slurm job may number its own GPUs from 0, so the locks of one job say nothing to another
    folder = Path(tempfile.gettempdir()) / f"scalenorm-bench-{os.getuid()}{f'-job{job}' if job else ''}"
    # slots outside, ids inside: a second run shares a GPU only when every GPU has one
    slots = [(name, folder / f"gpu-{name.replace('/', '-')}-{slot}.lock") for slot in range(runs_per_gpu) for name in ids]
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        name, lock = _first_free(slots)
    except OSError as error:
        raise BenchError(f"{folder}: no lock files there ({error}); set TMPDIR to a folder of yours") from None
    with lock:
        yield name


def _first_free(slots: list[tuple[str, Path]]):
    """(id, its open and locked file) of the first slot that nobody holds, however long that takes."""
    waited = False
    while True:
        for name, path in slots:
            lock = path.open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return name, lock
            except BlockingIOError:
                lock.close()
        if not waited:
            print(f"waiting for a GPU: all locks in {slots[0][1].parent} are taken", file=sys.stderr, flush=True)
            waited = True
        time.sleep(POLL)
