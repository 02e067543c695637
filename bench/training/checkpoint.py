"""Checkpoints: what a run needs to go on to the same bits after it was stopped.

Never a rule's output, since Snakemake deletes those of a failed job. A checkpoint is found by a digest of all that decides
the run's numbers, so an edited variant or changed code never resumes an old state.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bench import files
from bench.machine import source_digest
from bench.plan.spec import Run

FOLDER = Path("results/checkpoints")
POLL = 0.5  # seconds between two looks at a lock that another process holds
# Digests of earlier sources whose states these sources continue to the same bits: what only moves code adds its predecessor.
SAME_NUMBERS: tuple[str, ...] = ()


class Checkpoint:
    """The checkpoint file of one run; it exists from the first `save` to `delete`."""

    def __init__(self, run: Run, noise_multiplier: float, folder: Path = FOLDER, digest: str = ""):
        """`digest` is that of the data: a run never goes on with others than it began with."""
        self.folder, self.facts = folder, (run.json(), noise_multiplier, digest)
        self.path = self._path(source_digest())
        self.lock_path = folder / f"{_digest(run.id)}.lock"

    def _key(self, sources: str) -> str:
        run, noise_multiplier, data = self.facts
        return f"{run}\n{noise_multiplier!r}\n{data}\n{sources}\n{torch.__version__}"

    def _path(self, sources: str) -> Path:
        return self.folder / f"{_digest(self._key(sources))}.pt"

    @contextlib.contextmanager
    def lock(self, wait: Callable[[], bool] | None = None) -> Iterator[bool]:
        """Whether no other process is training a run of this id. The kernel frees the lock, however a process ends.

        With `wait` it waits for the other process, until `wait()` says to stop.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = _locked(self.lock_path)
        if file is None and wait:
            print("another process trains this run; waiting for it", file=sys.stderr, flush=True)
            while file is None and not wait():
                time.sleep(POLL)
                file = _locked(self.lock_path)
        try:
            yield file is not None
        finally:
            if file:
                self.lock_path.unlink(missing_ok=True)
                file.close()

    def save(self, state: dict) -> bool:
        """Writes `state`, tensors and plain values, by rename; whether it could: the run goes on without, and says why.

        The first line of the file is a digest of the rest and of all that the state belongs to.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        head = _seal(self._key(source_digest()), content)
        try:
            files.replace(self.path, lambda file: file.write(head + b"\n" + content), lasting=True)
        except OSError as error:
            print(
                f"{self.path}: the state of step {state['step']} is not saved ({error.strerror})", file=sys.stderr, flush=True
            )
            return False
        return True

    def load(self) -> dict | None:
        """The saved state, on the CPU; None where there is none, or one that is damaged or of another run: it starts over."""
        for sources in (source_digest(), *SAME_NUMBERS):
            try:
                head, _, content = self._path(sources).read_bytes().partition(b"\n")
            except FileNotFoundError:
                continue
            if _seal(self._key(sources), content) == head:
                with contextlib.suppress(RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
                    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
            print(f"{self._path(sources)}: damaged, or of another run; it is not used", file=sys.stderr, flush=True)
        return None

    def delete(self) -> None:
        for path in (self.path, *map(self._path, SAME_NUMBERS)):
            path.unlink(missing_ok=True)
            for partial in self.folder.glob(f".{path.name}.*.partial"):  # of processes that were killed
                partial.unlink(missing_ok=True)


def _seal(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + content).hexdigest().encode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _locked(path: Path):
    """The file at `path`, open and locked; None where another process has the lock.

    A file system without locks, NFS without its daemon say, has nothing to ask: there Snakemake gives each run to one job.
    """
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            print(f"{path}: no locks on this file system ({error.strerror})", file=sys.stderr)
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last holder deleted it meanwhile: a lock that others no longer see
