"""One run, from its specification to its record: steps, evaluations, checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.data import Dataset
from bench.dp.optimizer import NonFiniteGradient
from bench.evidence import images
from bench.machine import describe, peak_memory_mb
from bench.plan.spec import Run, why_not_private
from bench.training import recipe
from bench.training.checkpoint import Checkpoint
from bench.training.trainer import Trainer, evaluate

WATCH_EVERY = 0.5  # seconds
# Epsilon is that of a number of steps fixed beforehand. (What diverges is what the mechanism gave and its loss on the test
# split: the epsilon of all planned steps covers that stop, the one of the steps taken does not; Rogers et al. 2016.)
UNCOVERED = "; the stop depends on what was trained, which the epsilon of these steps does not cover"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a watcher sees after a step."""

    step: int
    steps: int
    epsilon: float  # RDP, spent so far
    train_loss: float  # mean over the samples since the last evaluation
    images_per_second: float
    seconds: float  # of training so far, those before a stop included
    seconds_left: float
    accuracy: float | None  # percent of the test split, where it was evaluated at this step


class Stopped(Exception):
    """The run was asked to stop and goes on from its checkpoint when it is started again."""


def train(
    run: Run,
    dataset: Dataset,
    noise_multiplier: float,
    machine: dict,
    watch: Callable[[Progress], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
    stop: Callable[[], bool] = lambda: False,
    make: Callable[..., Trainer] = Trainer,  # an audit gives one that is watched
) -> dict:
    """Trains `run` and returns its record, provenance aside. One whose weights or test loss become inf or NaN has diverged.

    With a checkpoint the run goes on where it was stopped and ends in the same numbers (on a GPU with
    `machine.deterministic`, and else up to kernels that add in varying order). It saves its state every
    `checkpoint_minutes`, and when `stop()`, asked after every step, says so: then Stopped is raised.
    """
    trainer = make(run, dataset, noise_multiplier, machine)
    if checkpoint and (state := checkpoint.load()):
        trainer.restore(state)
    steps, every = run.recipe["steps"], 60 * machine["checkpoint_minutes"]
    status, reason = "completed", None
    start, resumed_at = time.perf_counter() - trainer.seconds, trainer.step
    shown = saved = time.perf_counter()
    try:
        while trainer.step < steps:
            trainer.take_step()
            evaluates = trainer.step % run.recipe["evaluate_every"] == 0 or trainer.step == steps
            now = time.perf_counter()
            if now - shown > WATCH_EVERY or evaluates:
                progress = {
                    "step": trainer.step,
                    "steps": steps,
                    "epsilon": trainer.epsilon,
                    "train_loss": trainer.train_loss,
                }
                accuracy = trainer.evaluate()["accuracy"] if evaluates else None
                shown = now = time.perf_counter()
                trainer.seconds = now - start
                trainer.meter.read()
                progress |= {"images_per_second": trainer.images / trainer.seconds, "accuracy": accuracy}
                progress["seconds"] = trainer.seconds
                watch(Progress(**progress, seconds_left=trainer.seconds / trainer.step * (steps - trainer.step)))
            if checkpoint and trainer.step < steps and ((stopping := stop()) or now - saved >= every):
                trainer.seconds = time.perf_counter() - start
                kept = checkpoint.save(trainer.state())
                saved = time.perf_counter()
                if stopping:
                    where = "there" if kept else "an earlier step"
                    raise Stopped(f"stopped after step {trainer.step} of {steps}; the same command goes on from {where}")
    except NonFiniteGradient as error:
        status, reason = "diverged", f"step {trainer.step}: {error}{UNCOVERED if private(run) else ''}"
    trainer.seconds = time.perf_counter() - start
    spent = {"joules": trainer.meter.read(), "resumed_at_step": resumed_at}
    record = _record(trainer, status, reason, machine)
    record["cost"] |= spent
    return record


def private(run: Run) -> bool:
    """Whether the run keeps an epsilon."""
    return math.isfinite(run.epsilon) and why_not_private(run.recipe) is None


def _record(trainer: Trainer, status: str, reason: str | None, machine: dict) -> dict:
    run, dataset, curve = trainer.run, trainer.dataset, trainer.curve
    completed = status == "completed"
    best = max(curve, key=lambda point: point["accuracy"], default=None)
    return {
        "status": status,
        "run": run.resolved(),
        "result": {
            "reason": reason,
            "accuracy": curve[-1]["accuracy"] if completed else None,
            "accuracy_without_average": (evaluate(trainer.network, dataset)[0] if completed and trainer.average else None),
            "loss": curve[-1]["test_loss"] if completed else None,
            "correct": images.pack(trainer.correct.cpu().tolist()) if completed else None,
            "best_epoch_accuracy": best["accuracy"] if best else None,
            "best_epoch_step": best["step"] if best else None,
            "test_split_steers": run.recipe["schedule"] == "plateau-on-test-loss",
        },
        "curve": curve,
        "scale_mixing": trainer.scale_mixing() if completed else [],
        "privacy": {
            "noise_multiplier": trainer.optimizer.noise_multiplier,
            "sample_rate": trainer.rate,
            "steps": trainer.step,
            "train_size": trainer.train_size,
            "clip_norm": run.recipe["clip_norm"] if trainer.clips else math.inf,
            "delta": run.recipe["delta"],
            "sampling": "poisson",
            "adjacency": "zero-out",
            "nonfinite_samples": trainer.measurements.nonfinite,  # each added zero, every time it was drawn
            "private": private(run),
            **recipe.privacy_of(run.recipe, trainer.rate, trainer.optimizer.noise_multiplier, trainer.step),
        },
        "data": dataset.describe(),
        "model": {
            "parameters": sum(p.numel() for p in trainer.optimizer.params),
            "stages": list(trainer.measurements.stages),  # of the signal-to-noise ratios in the curve
        },
        "cost": {
            "seconds": round(trainer.seconds, 3),
            "images_per_second": round(trainer.images / trainer.seconds, 2),
            "peak_memory_mb": round(_peak_memory_mb(trainer.device), 1),
        },
        "machine": describe(
            trainer.device,
            machine | {"physical_batch": trainer.largest} | ({} if trainer.clips else {"engine": "not-private"}),
        ),
    }


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory_mb()
