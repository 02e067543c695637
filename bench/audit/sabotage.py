"""Engines and loops that do not keep what their records claim: what an audit must catch. No configuration reaches them.

Each sabotage patches the shipped code for as long as its context is open.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest.mock import patch

import torch

from bench.dp import optimizer as optimizers
from bench.dp.fast import Fast
from bench.dp.gradients import OpacusHooks
from bench.dp.optimizer import Optimizer
from bench.training import loop, trainer


def _noise(change: Callable) -> Iterator[None]:
    """Noise as `change(real, seed, step, name, like)` makes it."""
    return patch.object(optimizers, "noise", functools.partial(change, optimizers.noise))


def no_noise():
    return _noise(lambda real, seed, step, name, like: torch.zeros_like(like))


def less_noise():
    return _noise(lambda real, *what: 0.9 * real(*what))


def one_layer_without_noise():
    return _noise(lambda real, seed, step, name, like: real(seed, step, name, like) * (name != "ws_conv.weight"))


def the_same_noise_at_every_step():
    return _noise(lambda real, seed, step, name, like: real(seed, 1, name, like))


def the_same_noise_in_every_tensor():
    return _noise(lambda real, seed, step, name, like: real(seed, step, "", like))


def _factors(change: Callable) -> Iterator[None]:
    real = Optimizer.clip_factors
    return patch.object(Optimizer, "clip_factors", lambda self, *what: change(functools.partial(real, self), *what))


def clipping_off():
    return _factors(lambda real, *what: (real(*what) != 0).to(torch.float32))


def clip_norm_too_large():
    return _factors(lambda real, squares, *mask: real(squares / 1.1**2, *mask))


@contextlib.contextmanager
def clipping_the_mean():
    """The batch's mean gradient has at most length C, and no sample's is clipped."""
    real = Optimizer.finish_step

    def finish_step(self, step):
        count = _in_batch(self)
        length = torch.cat([p.summed_grad.flatten() for p in self.params]).norm()
        for p in self.params:
            p.summed_grad *= min(1.0, self.max_grad_norm * count / float(length))
        real(self, step)

    with clipping_off(), patch.object(Optimizer, "finish_step", finish_step):
        yield


@contextlib.contextmanager
def views_clipped_one_by_one():
    """Each view of an image counts as a sample."""

    def apart(real):
        def accumulate(self, images, labels, mask=None):
            return real(self, images.flatten(0, 1)[:, None], labels.repeat_interleave(images.shape[1]), mask)

        return accumulate

    with contextlib.ExitStack() as stack:
        for engine in (Fast, OpacusHooks):
            stack.enter_context(patch.object(engine, "accumulate", apart(engine.accumulate)))
        yield


def scaling_by_the_batch():
    """The step is divided by the number of samples that came, not by the one that was expected."""
    real = Optimizer.finish_step

    def finish_step(self, step):
        with patch.object(self, "expected_batch_size", max(1, _in_batch(self))):
            real(self, step)

    return patch.object(Optimizer, "finish_step", finish_step)


def fixed_batches():
    def fixed(size, rate, source):
        return torch.from_numpy(source.permutation(size)[: round(size * rate)].copy())

    return patch.object(trainer, "poisson_batch", fixed)


def shuffled_epochs():
    """Every sample once an epoch, in batches whose sizes vary as Poisson ones do: cut from one order at random places."""
    orders: dict[tuple, torch.Tensor] = {}

    def next_part(size, rate, source):
        count = int(source.binomial(size, rate))
        waiting = orders.get(size, torch.empty(0, dtype=torch.int64))
        while len(waiting) < count:
            waiting = torch.cat([waiting, torch.from_numpy(source.permutation(size))])
        orders[size] = waiting[count:]
        return waiting[:count].unique()

    return patch.object(trainer, "poisson_batch", next_part)


@contextlib.contextmanager
def steps_before_a_resume_forgotten():
    """The record counts, and accounts for, the steps since the run was last continued."""
    restore, record = trainer.Trainer.restore, loop._record

    def remember(self, state):
        restore(self, state)
        self.forgotten = state["step"]

    def forget(run, *more):
        run.step -= getattr(run, "forgotten", 0)
        return record(run, *more)

    with patch.object(trainer.Trainer, "restore", remember), patch.object(loop, "_record", forget):
        yield


def _in_batch(optimizer: Optimizer) -> int:
    return sum(len(norms) for norms in optimizer.norms)


SABOTAGES: dict[str, Callable] = {
    "no noise": no_noise,
    "noise x 0.9": less_noise,
    "one layer without noise": one_layer_without_noise,
    "same noise at every step": the_same_noise_at_every_step,
    "same noise in every tensor": the_same_noise_in_every_tensor,
    "clipping off": clipping_off,
    "clip norm x 1.1": clip_norm_too_large,
    "clipping the batch's mean": clipping_the_mean,
    "views clipped one by one": views_clipped_one_by_one,
    "scaling by the actual batch": scaling_by_the_batch,
    "fixed-size batches": fixed_batches,
    "shuffled epochs": shuffled_epochs,
    "steps before a resume forgotten": steps_before_a_resume_forgotten,
}


@contextlib.contextmanager
def sabotaged(case: str) -> Iterator[None]:
    """Within, the shipped code has the fault `case`.

    Admission, which refuses some of them before any step, is out of the way: the audit has to see them by itself.
    """
    with patch.object(trainer, "admit", lambda *what: None), SABOTAGES[case]():
        yield
