"""Checkpoints: what a run needs to go on to the same bits after it was stopped.

Never a rule's output, since Snakemake deletes those of a failed job. A checkpoint is found by a digest of all that decides
the run's numbers, so an edited variant or changed code never resumes an old state.
"""

import contextlib
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.machine import source_digest
from bench.plan.spec import Run

FOLDER = Path("results/checkpoints")


class Checkpoint:
    """The checkpoint file of one run; it exists from the first `save` to `delete`."""

    def __init__(self, run: Run, noise_multiplier: float, folder: Path = FOLDER):
        key = f"{run.json()}\n{noise_multiplier!r}\n{source_digest()}\n{torch.__version__}"
        self.path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pt"

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether no other process is training the run. The kernel frees the lock, however a process ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def save(self, state: dict) -> None:
        """Writes `state`, tensors and plain values, by rename; the first line of the file is the digest of the rest."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            file.flush()
            os.fsync(file.fileno())  # a rename that outlives its content would be a damaged checkpoint
        partial.replace(self.path)

    def load(self) -> dict | None:
        """The saved state, on the CPU; None where there is none or it is damaged: the run then starts over."""
        try:
            digest, _, content = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")

    def delete(self) -> None:
        for file in (self.path, self.path.with_suffix(".lock")):
            file.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f"{self.path.stem}.*.partial"):  # of processes that were killed
            partial.unlink(missing_ok=True)
