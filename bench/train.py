"""One run, from its specification to its record, in the order of DP-SGD (Abadi et al. 2016, algorithm 1)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from bench import BenchError, models, scale_mixing
from bench.data import Dataset
from bench.dp import accounting
from bench.dp.admission import admit
from bench.dp.gradients import ENGINES, NotPrivate
from bench.dp.optimizer import NonFiniteGradient, Optimizer
from bench.dp.sampling import generator, poisson_batch
from bench.machine import describe, peak_memory_mb, uses_gpu
from bench.spec import Run

OPTIMIZERS = {"sgd": torch.optim.SGD, "nadam": torch.optim.NAdam, "adam": torch.optim.Adam}
TEST_BATCH = 1000
SCALE_MIXING_IMAGES = 512
WATCH_EVERY = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a watcher sees after a step."""

    step: int
    steps: int
    epsilon: float  # RDP, spent so far
    train_loss: float  # mean over the samples since the last evaluation
    images_per_second: float
    seconds_left: float
    accuracy: float | None  # percent of the test split, where it was evaluated at this step


def noise_of(run: Run, train_size: int) -> dict:
    """The noise multiplier that this run's recipe prescribes for `train_size` samples, and how it was found."""
    recipe = run.recipe
    rate = sample_rate(recipe, train_size)
    if recipe["budget"] == "as-published" and math.isfinite(run.epsilon):
        published = {float(key): value for key, value in recipe["noise_multipliers"].items()}
        sigma = published[run.epsilon]
    else:
        sigma = accounting.calibrate(run.epsilon, rate, recipe["steps"], recipe["delta"], recipe["accountant"])
    return {"noise_multiplier": sigma} | privacy_of(recipe, rate, sigma, recipe["steps"])


def sample_rate(recipe: dict, train_size: int) -> float:
    """q = B / N, exactly."""
    rate = recipe["batch_size"] / train_size
    if rate > 1:
        raise BenchError(f"batch_size {recipe['batch_size']} exceeds the {train_size} training samples; choose a smaller one")
    return rate


def privacy_of(recipe: dict, rate: float, sigma: float, steps: int) -> dict:
    """What `steps` steps at noise multiplier `sigma` spend by both accountants."""
    spent = (sigma, rate, steps, recipe["delta"])
    return {"epsilon_rdp": accounting.epsilon_rdp(*spent), "epsilon_pld": accounting.epsilon_pld(*spent)}


def device_of(machine: dict) -> torch.device:
    """The device that `machine.device` means here; BenchError where it asks for a GPU that torch cannot use."""
    if not uses_gpu(machine):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BenchError(
            f"machine.device: {machine['device']}: torch {torch.__version__} sees no CUDA GPU; install a CUDA build, or "
            "set machine: {device: cpu} in config.local.yaml"
        )
    return torch.device("cuda")


def train(
    run: Run,
    dataset: Dataset,
    noise_multiplier: float,
    machine: dict,
    watch: Callable[[Progress], None] = lambda _: None,
) -> dict:
    """Trains `run` and returns its record, provenance aside. A run that meets inf or NaN is recorded as diverged."""
    torch.set_num_threads(machine["threads"])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = device_of(machine)
    private = math.isfinite(run.epsilon)
    recipe, steps = run.recipe, run.recipe["steps"]
    dataset = dataset.to(device)
    train_size, shape = len(dataset.train_labels), tuple(dataset.train_images.shape[1:])
    rate = sample_rate(recipe, train_size)

    network = models.build(run.model, shape[0], dataset.classes, generator(run.seed, "weights"))
    if private:
        admit(network, shape)
    network.to(device)
    arguments = {key: value for key, value in recipe["optimizer"].items() if key != "name"}
    inner = OPTIMIZERS[recipe["optimizer"]["name"]]([p for _, p in models.named_parameters(network)], **arguments)
    optimizer = Optimizer(
        inner,
        noise_multiplier=noise_multiplier,
        max_grad_norm=recipe["clip_norm"],
        expected_batch_size=recipe["batch_size"],
        generator=generator(run.seed, "noise", device),
    )
    engine = ENGINES[machine["engine"]](network, optimizer) if private else NotPrivate(network, optimizer)
    # statistics of a batch norm are those of the whole logical batch
    physical = train_size if run.model.mixes_samples else machine["physical_batch"]
    scheduler = _scheduler(recipe, inner)
    batches = generator(run.seed, "batches")

    curve: list[dict] = []
    status, reason, step = "completed", None, 0
    seen = loss_sum = total = 0.0
    start = shown = time.perf_counter()
    try:
        for step in range(1, steps + 1):
            network.train()
            optimizer.start_step()
            batch = poisson_batch(train_size, rate, batches).to(device)
            for part in _parts(batch, physical):
                images = dataset.normalise(dataset.train_images[part])[:, None]  # (n, K=1, C, S, S)
                loss_sum += engine.accumulate(images, dataset.train_labels[part]).item()
            optimizer.finish_step()
            seen, total = seen + len(batch), total + len(batch)
            if recipe["schedule"] == "cosine":
                scheduler.step()
            accuracy = None
            mean_loss = loss_sum / max(seen, 1)
            if step % recipe["evaluate_every"] == 0 or step == steps:
                accuracy, loss = evaluate(network, dataset)
                if not math.isfinite(loss):
                    raise NonFiniteGradient("the test loss is not finite")
                if recipe["schedule"] == "plateau-on-test-loss":
                    scheduler.step(loss)
            now = time.perf_counter()
            if accuracy is not None or now - shown > WATCH_EVERY:
                shown = now
                epsilon = accounting.epsilon_rdp(noise_multiplier, rate, step, recipe["delta"])
                watch(
                    Progress(
                        step=step,
                        steps=steps,
                        epsilon=epsilon,
                        train_loss=mean_loss,
                        images_per_second=total / (now - start),
                        seconds_left=(now - start) / step * (steps - step),
                        accuracy=accuracy,
                    )
                )
            if accuracy is not None:
                point = {"step": step, "epsilon_rdp": epsilon, "train_loss": mean_loss, "test_loss": loss}
                curve.append(point | {"accuracy": accuracy})
                seen = loss_sum = 0.0
    except NonFiniteGradient as error:
        status, reason = "diverged", f"step {step}: {error}"
    seconds = time.perf_counter() - start

    best = max(curve, key=lambda point: point["accuracy"], default=None)
    completed = status == "completed"
    return {
        "status": status,
        "run": run.resolved(),
        "result": {
            "reason": reason,
            "accuracy": curve[-1]["accuracy"] if completed else None,
            "loss": curve[-1]["test_loss"] if completed else None,
            "best_epoch_accuracy": best["accuracy"] if best else None,
            "best_epoch_step": best["step"] if best else None,
            "test_split_steers": recipe["schedule"] == "plateau-on-test-loss",
        },
        "curve": curve,
        "scale_mixing": (
            scale_mixing.measure(network, dataset.normalise(dataset.test_images[:SCALE_MIXING_IMAGES])) if completed else []
        ),
        "privacy": {
            "noise_multiplier": noise_multiplier,
            "sample_rate": rate,
            "steps": step,
            "train_size": train_size,
            "clip_norm": recipe["clip_norm"] if private else math.inf,
            "delta": recipe["delta"],
            "sampling": "poisson",
            "adjacency": "add-or-remove-one",
            **privacy_of(recipe, rate, noise_multiplier, step),
        },
        "data": dataset.describe(),
        "model": {"parameters": sum(p.numel() for p in optimizer.params)},
        "cost": {"seconds": seconds, "images_per_second": total / seconds, "peak_memory_mb": _peak_memory_mb(device)},
        "machine": describe(device, machine | ({} if private else {"engine": "not-private"})),
    }


def probe(run: Run, machine: dict) -> float:
    """Images per second of this machine on private steps of `run`'s network, from two physical batches of noise images."""
    torch.set_num_threads(machine["threads"])
    device = device_of(machine)
    size, channels = run.dataset["image_size"], len(run.dataset["mean"])
    network = models.build(run.model, channels, 10, generator(run.seed, "weights")).to(device)
    optimizer = Optimizer(
        torch.optim.SGD(network.parameters(), lr=0.0), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=1
    )
    engine = ENGINES[machine["engine"]](network, optimizer)
    n = machine["physical_batch"]
    images = torch.randn(n, 1, channels, size, size, device=device)
    labels = torch.zeros(n, dtype=torch.long, device=device)
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        optimizer.start_step()
        engine.accumulate(images, labels).item()
        optimizer.finish_step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return n / seconds


@torch.no_grad()
def evaluate(network: torch.nn.Module, dataset: Dataset) -> tuple[float, float]:
    """(accuracy in percent, mean cross-entropy) on the test split, in evaluation mode."""
    network.eval()
    correct = loss = 0.0
    for images, labels in zip(dataset.test_images.split(TEST_BATCH), dataset.test_labels.split(TEST_BATCH), strict=True):
        logits = network(dataset.normalise(images))
        correct += (logits.argmax(1) == labels).sum().item()
        loss += cross_entropy(logits, labels, reduction="sum").item()
    return 100 * correct / len(dataset.test_labels), loss / len(dataset.test_labels)


def _parts(batch: torch.Tensor, physical: int) -> list[torch.Tensor]:
    """The logical batch (n,) in as few parts of at most `physical` as possible, of equal size but for one; none if n = 0."""
    return list(batch.tensor_split(math.ceil(len(batch) / physical))) if len(batch) else []


def _scheduler(recipe: dict, optimizer: torch.optim.Optimizer):
    if recipe["schedule"] == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe["steps"])
    if recipe["schedule"] == "plateau-on-test-loss":  # mrchntia/ScaleNorm b3c2465, main.py: factor 0.5, patience 3
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    return None


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory_mb()
