"""How much of a GPU's memory a run needs, estimated without one: what the tensors of a few samples hold on a CPU."""

import math
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from bench import models
from bench.dp.gradients import ENGINES, NotPrivate
from bench.dp.optimizer import Optimizer
from bench.dp.sampling import generator
from bench.plan.spec import Run
from bench.training import physical, recipe

PIXELS = 4 * 32 * 32  # of the smallest of three batches
OF_A_WEIGHT = 7 * 4  # bytes: itself, sum, gradient, noise, what an optimiser keeps (two at most), and an average


class Held(TorchDispatchMode):
    """Bytes of the storages that operations within made and something still holds: `now`, and at the most `peak`."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary()  # storages, those that were there before included

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        for storage in _storages((args, kwargs)):
            self._known.setdefault(storage, None)
        out = operation(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage not in self._known:
                self._known[storage] = None
                self.now += storage.nbytes()
                weakref.finalize(storage, self._released, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _released(self, size: int) -> None:
        self.now -= size


def _storages(values) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def needed(run: Run, measured: dict[tuple, tuple[float, float, float]]) -> tuple[float, float]:
    """(bytes for a whole logical batch of `run` at once, for one sample at a time), both estimates.

    By the engine `fast`, or plain sums where nothing is clipped: linear in samples and views, from three small batches, which
    `measured` keeps for other runs; and weights with their sums, gradients, noise, averages. Not in it: the data set, CUDA
    itself, workspaces. A GPU's forms hold a third more or a tenth less: by shapes alone they took 8.2 GiB where this says
    6.1 (resnet9, 1,152 images), 30 where it says 26 (wrn16-4, 4,352) and 64 where it says 70 (resnet50, 1,152 of 160 px).
    """
    clips = math.isfinite(run.epsilon) and run.setting("mechanism")["clip"]
    key = run.arch, run.dataset["image_size"], run.setting("precision"), run.setting("views") > 1, clips
    if key not in measured:
        count = max(1, PIXELS // run.dataset["image_size"] ** 2)
        small, double = _of_sums(run, count, 1, clips), _of_sums(run, 2 * count, 1, clips)
        more_views = _of_sums(run, count, 2, clips) if run.setting("views") > 1 else small
        measured[key] = max(2 * small - double, 0), (double - small) / count, (more_views - small) / count
    fixed, of_sample, of_view = measured[key]
    of_sample += (run.setting("views") - 1) * of_view
    fixed += OF_A_WEIGHT * sum(p.numel() for p in _network(run).parameters())
    most = physical.shapes(run.recipe["batch_size"], 2**31)[-1]
    return fixed + most * of_sample, fixed + (most if run.model.mixes_samples else 1) * of_sample


def _network(run: Run) -> torch.nn.Module:
    return models.build(run.model, len(run.dataset["mean"]), 10, generator(run.seed, "weights"))


def _of_sums(run: Run, samples: int, views: int, clips: bool) -> int:
    """Bytes that summing the gradients of so many samples takes beside the network."""
    network = _network(run)
    if run.setting("precision") == "bf16":
        recipe.set_precision("bf16", network, torch.device("cpu"))
    optimizer = Optimizer(
        torch.optim.SGD(network.parameters(), lr=0.0), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=1
    )
    engine = (ENGINES["fast"] if clips else NotPrivate)(network, optimizer)
    optimizer.start_step()
    size = run.dataset["image_size"]
    with Held() as held:
        images = torch.zeros(samples, views, len(run.dataset["mean"]), size, size)
        mask = None if run.model.mixes_samples else torch.ones(samples)
        engine.accumulate(images, torch.zeros(samples, dtype=torch.long), mask)
    return held.peak
