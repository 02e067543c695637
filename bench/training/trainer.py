"""A run in progress: what a step of DP-SGD changes (Abadi et al. 2016, algorithm 1), and how it is saved and set up again."""

import contextlib
import math

import torch
from torch.nn.functional import cross_entropy

from bench import BenchError, models
from bench.data import Dataset, augment
from bench.dp import accounting
from bench.dp.admission import admit
from bench.dp.gradients import ENGINES, NotPrivate
from bench.dp.graph import Captured
from bench.dp.optimizer import NonFiniteGradient, Optimizer
from bench.dp.sampling import generator, poisson_batch, stream
from bench.machine import forget_peak_memory
from bench.plan.spec import Run
from bench.training import physical, recipe, scale_mixing
from bench.training.averaging import Average
from bench.training.device import device_of, send, set_deterministic
from bench.training.energy import Meter
from bench.training.measurements import Measurements, rounded

TEST_BATCH = 1000
CURVE_DIGITS = 6  # significant ones, of losses and epsilons: a record has many
SCALE_MIXING_IMAGES, SCALE_MIXING_BATCH = 1000, 250
CPU_IMAGES = 128  # in memory at once
# What decides the memory of a sample -> samples in memory at once that this process' GPU has room for
FITS: dict[tuple, int] = {}


class Trainer:
    """A run in progress: everything that a step changes, and `state` to take it down and set it up again."""

    def __init__(self, run: Run, dataset: Dataset, noise_multiplier: float, machine: dict):
        torch.set_num_threads(machine["threads"])
        forget_peak_memory()
        self.run, self.recipe, self.device = run, run.recipe, device_of(machine)
        set_deterministic(machine.get("deterministic", False), self.device)
        self.private = math.isfinite(run.epsilon)  # in name; `mechanism` may take it apart
        self.clips = self.private and run.setting("mechanism")["clip"]
        self.dataset = dataset.to(self.device)
        self.train_size, shape = len(dataset.train_labels), tuple(dataset.train_images.shape[1:])
        self.rate = recipe.sample_rate(run.recipe, self.train_size)
        self.network = self._network(shape[0])
        models.check_logits(run.model, self.network, shape, dataset.classes)
        if self.private:
            admit(self.network, shape, ENGINES[machine["engine"]] if self.clips else None)
        self.network.to(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        recipe.set_precision(run.setting("precision"), self.network, self.device)
        names, parameters = zip(*self.network.named_parameters(), strict=True)
        self.optimizer = Optimizer(
            recipe.make_optimizer(run.recipe, parameters, self.device),
            noise_multiplier=noise_multiplier,
            max_grad_norm=run.recipe["clip_norm"],
            expected_batch_size=run.recipe["batch_size"],
            seed=run.seed,
            names=names,
        )
        self.schedule = recipe.make_schedule(run, self.optimizer.original_optimizer)
        self.engine = (ENGINES[machine["engine"]] if self.clips else NotPrivate)(self.network, self.optimizer)
        if self.clips and self.device.type == "cuda" and machine["engine"] == "fast" and machine.get("cuda_graph") == "auto":
            self.engine = Captured(self.engine)
        self.measurements = Measurements(self.network, self.optimizer)
        self.average = Average(parameters, run.setting("ema")) if run.setting("ema") else None
        self.physical = self._first_physical_batch(machine)
        self.step = self.images = self.since = 0  # steps taken, images seen, of them since the last evaluation
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)  # their sum since the last evaluation
        self.seconds, self.curve = 0.0, []
        self.meter = Meter(self.device)
        self.correct = None  # at the last evaluation, bool (N,): which test images were right

    def _first_physical_batch(self, machine: dict) -> int:
        """Samples in memory at once, to begin with."""
        if self.run.model.mixes_samples:
            return self.train_size  # statistics of a batch norm are those of the whole logical batch
        images = machine["physical_batch"]
        if images == "auto" and self.device.type == "cuda":
            most = physical.shapes(self.recipe["batch_size"], self.train_size)[-1]
            if self._key not in FITS:
                FITS[self._key] = physical.room(self._probe, self.device, most, machine["runs_per_gpu"])
            return min(FITS[self._key], most)
        return max(1, (CPU_IMAGES if images == "auto" else images) // self.run.setting("views"))

    @property
    def _key(self) -> tuple:
        """Of FITS."""
        settings = (self.run.setting(key) for key in ("batch_size", "views", "precision"))
        return self.run.arch, self.run.variant, self.run.dataset["image_size"], *settings, type(self.engine).__name__

    def _probe(self, samples: int) -> None:
        """Sums the gradients of the first so many samples, for the memory that it takes."""
        self.network.train()
        self.optimizer.start_step()
        part = torch.arange(samples, device=self.device)
        draws = torch.zeros(samples, self.run.setting("views"), 3, dtype=torch.long, device=self.device)
        images = self._views(part, None if self.recipe["augmentation"] == "none" else draws)
        plain = self.engine.engine if isinstance(self.engine, Captured) else self.engine  # a graph of this shape is no use
        plain.accumulate(images, self.dataset.train_labels[part], torch.ones(samples, device=self.device))
        self.optimizer.start_step()

    def take_step(self) -> None:
        """One step on one Poisson batch; NonFiniteGradient, of a run that does not clip, leaves the model as it was."""
        self.step += 1
        self.network.train()
        batch = poisson_batch(self.train_size, self.rate, stream(self.run.seed, "batches", self.step))
        draws = None
        if self.recipe["augmentation"] != "none":
            source = stream(self.run.seed, "augmentation", self.step)
            draws = augment.draw(len(batch), self.run.setting("views"), source)
        loss = self._accumulate(batch, draws)
        self.optimizer.finish_step(self.step)
        self.measurements.add()
        self.images, self.since = self.images + len(batch), self.since + len(batch)
        self.loss += loss
        if self.recipe["schedule"] != "plateau-on-test-loss":
            self.schedule.step()
        if self.average:
            self.average.update(self.step)

    def _accumulate(self, batch: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        """Loss sum of the logical batch, its gradients clipped and summed in physical batches that fit into the memory."""
        while True:
            sizes = physical.shapes(self.recipe["batch_size"], self.physical) if self._fixed else ()
            try:
                self.optimizer.start_step()
                total = torch.zeros_like(self.loss)
                indices = send(batch, self.device)
                sent = draws if draws is None else send(draws, self.device)
                for part, draw, mask in physical.split(indices, sent, self.physical, sizes):
                    images = self._views(part, draw)
                    total += self.engine.accumulate(images, self.dataset.train_labels[part], mask)
                return total
            except RuntimeError as error:
                if not physical.short_of_memory(error):
                    raise
                if self.physical == 1 or self.run.model.mixes_samples:
                    reason, _, _ = str(error).partition("\n")
                    raise BenchError(
                        f"out of memory with the smallest possible batch ({reason}); take a machine, or a GPU, with more"
                    ) from None
                self.physical = math.ceil(min(self.physical, len(batch)) / 2)
                FITS[self._key] = self.physical
            torch.cuda.empty_cache()  # after the handler, whose traceback keeps tensors alive

    @property
    def largest(self) -> int:
        """Samples in memory at once, as a record states them: at most, or where batches are whole about at most."""
        on_cpu = self.device.type == "cpu" and not self.run.model.mixes_samples
        return self.physical if on_cpu else physical.shapes(self.recipe["batch_size"], self.physical)[-1]

    @property
    def _fixed(self) -> bool:
        """Whether physical batches have one shape, which spares a GPU new kernels and a CPU nothing."""
        return self.device.type == "cuda" and not self.run.model.mixes_samples

    def _views(self, part: torch.Tensor, draws: torch.Tensor | None) -> torch.Tensor:
        """Normalised images (n, K, C, S, S)."""
        if draws is None:
            views = self.dataset.train_images[part][:, None]
        else:
            views = augment.apply(self.dataset.train_images, part, draws, self.run.setting("padding"))
        return self.dataset.normalise(views)

    def _network(self, channels: int) -> torch.nn.Module:
        return models.build(self.run.model, channels, self.dataset.classes, generator(self.run.seed, "weights"))

    def evaluate(self) -> dict:
        """A point of the curve, by the averaged weights where the recipe has them."""
        with self.average.in_place() if self.average else contextlib.nullcontext():
            accuracy, loss, self.correct = evaluate(self.network, self.dataset)
        if not math.isfinite(loss):
            raise NonFiniteGradient("the test loss is not finite")
        if self.recipe["schedule"] == "plateau-on-test-loss":
            self.schedule.step(loss)
        point = {"epsilon_rdp": self.epsilon, "train_loss": self.train_loss, "test_loss": loss}
        point = {"step": self.step} | {key: rounded(value, CURVE_DIGITS) for key, value in point.items()}
        self.curve.append(point | {"accuracy": accuracy} | self.measurements.point())
        self.loss.zero_()
        self.since = 0
        return self.curve[-1]

    def scale_mixing(self) -> list[dict]:
        """Of the first test images, by the averaged weights where the recipe has them."""
        images = self.dataset.test_images[:SCALE_MIXING_IMAGES].split(SCALE_MIXING_BATCH)
        with self.average.in_place() if self.average else contextlib.nullcontext():
            return scale_mixing.measure(self.network, map(self.dataset.normalise, images))

    @property
    def epsilon(self) -> float:
        """Spent so far, by RDP; inf where nothing is clipped."""
        if not self.clips:
            return math.inf
        return accounting.epsilon_rdp(self.optimizer.noise_multiplier, self.rate, self.step, self.recipe["delta"])

    @property
    def train_loss(self) -> float:
        """Mean over the samples since the last evaluation, those without a finite gradient left out."""
        loss, left_out = torch.stack([self.loss, self.measurements.since.double()]).cpu().tolist()  # one wait for both
        return loss / max(self.since - int(left_out), 1)

    def state(self) -> dict:
        """All that the next step depends on; what is spent follows from noise multiplier, rate and `step`."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if not callable(value)},
            "average": self.average.average if self.average else None,
            "loss": self.loss,
            "measurements": self.measurements.state(),
            "joules": self.meter.read(),
            **{key: getattr(self, key) for key in ("step", "images", "since", "seconds", "curve", "physical")},
        }

    def restore(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        recipe.restore_optimizer(self.optimizer.original_optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.average.average = [tensor.to(self.device) for tensor in state["average"]]
        self.loss.copy_(state["loss"])
        self.measurements.restore(state["measurements"])
        self.meter.resume(state["joules"])
        for key in ("step", "images", "since", "seconds", "curve", "physical"):
            setattr(self, key, state[key])


@torch.no_grad()
def evaluate(network: torch.nn.Module, dataset: Dataset) -> tuple[float, float, torch.Tensor]:
    """(accuracy in percent, mean cross-entropy, whether each image was right (N,)) on the test split, in evaluation mode."""
    network.eval()
    correct, loss = [], 0.0
    for images, labels in zip(dataset.test_images.split(TEST_BATCH), dataset.test_labels.split(TEST_BATCH), strict=True):
        logits = network(dataset.normalise(images)).float()
        correct.append(logits.argmax(1) == labels)
        loss += cross_entropy(logits, labels, reduction="sum").item()
    correct = torch.cat(correct)
    return 100 * correct.sum().item() / len(correct), loss / len(correct), correct
