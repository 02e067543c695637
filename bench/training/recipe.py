"""What a recipe's keys mean: its noise, sampling rate, optimiser and learning-rate schedule."""

import math

import torch

from bench import BenchError
from bench.dp import accounting
from bench.plan.spec import Run, mechanism

OPTIMIZERS = {"sgd": torch.optim.SGD, "nadam": torch.optim.NAdam, "adam": torch.optim.Adam}


def sample_rate(recipe: dict, train_size: int, key: str = "batch_size") -> float:
    """q = B / N, exactly."""
    rate = recipe[key] / train_size
    if rate > 1:
        raise BenchError(f"{key} {recipe[key]} exceeds the {train_size} training samples; choose a smaller one")
    return rate


def noise_of(run: Run, train_size: int) -> dict:
    """The noise multiplier that this run's recipe prescribes for `train_size` samples, and what it spends.

    Without noise (`mechanism`) it is 0; without clipping that of the budget, though it then bounds nothing.
    """
    recipe = run.recipe
    rate = sample_rate(recipe, train_size)
    if recipe["budget"] == "as-published" and math.isfinite(run.epsilon):
        published = {float(key): value for key, value in recipe["noise_multipliers"].items()}
        sigma = published[run.epsilon]
    else:
        of_budget = sample_rate(recipe, train_size, "proxy_for_batch_size") if recipe["budget"] == "proxy" else rate
        budget = (run.epsilon, of_budget, recipe["steps"], recipe["delta"], recipe["accountant"])
        # of a proxy the noise of the mean gradient, sigma C / B, is that of the large batch (Sander et al. 2022, TAN)
        sigma = accounting.calibrate(*budget) * rate / of_budget
    if not mechanism(recipe)["noise"]:
        sigma = 0.0
    facts = {"noise_multiplier": sigma, "sample_rate": rate, "steps": recipe["steps"], "delta": recipe["delta"]}
    return facts | privacy_of(recipe, rate, sigma, recipe["steps"])


def reach(run: Run, train_size: int) -> None:
    """BenchError where `noise_of` would find no noise for this run on `train_size` samples; nothing is searched."""
    recipe = run.recipe
    rate = sample_rate(recipe, train_size)
    if recipe["budget"] != "as-published":
        of_budget = sample_rate(recipe, train_size, "proxy_for_batch_size") if recipe["budget"] == "proxy" else rate
        accounting.reach(run.epsilon, of_budget, recipe["steps"], recipe["delta"], recipe["accountant"])


def privacy_of(recipe: dict, rate: float, sigma: float, steps: int) -> dict:
    """What `steps` steps at noise multiplier `sigma` spend: epsilon by both accountants, mu, its regret, a detection rate.

    As without noise where nothing is clipped.
    """
    return accounting.ledger(sigma if mechanism(recipe)["clip"] else 0.0, rate, steps, recipe["delta"])


def set_precision(precision: str, network: torch.nn.Module, device: torch.device) -> None:
    """Lets `network` and torch compute in `precision`; per-sample norms, clipped sums and noise stay float32.

    BenchError for tf32 without a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise BenchError("precision: tf32 exists on CUDA GPUs only; use float32 or bf16 here")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if precision == "bf16":
        network.forward = torch.autocast(device.type, torch.bfloat16)(network.forward)


def make_optimizer(recipe: dict, parameters: list[torch.nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """On a GPU all parameters are updated together; a CPU adds in the order that results version 2 was made with."""
    arguments = {key: value for key, value in recipe["optimizer"].items() if key != "name"}
    return OPTIMIZERS[recipe["optimizer"]["name"]](parameters, **arguments, foreach=True if device.type == "cuda" else None)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Loads `state`, saved on whatever device and loaded on the CPU. How it computes stays the optimiser's own.

    Step counts and NAdam's `mu_product` stay on the CPU, where an optimiser makes them and reads them at every step: torch
    sends the latter to the parameters' device, and each reading waits for that then.
    """
    own = [group["foreach"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, foreach in zip(optimizer.param_groups, own, strict=True):
        group["foreach"] = foreach
    for index, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        saved = state["state"].get(index, {})
        optimizer.state[p].update({key: saved[key].cpu() for key in ("step", "mu_product") if key in saved})


def make_schedule(run: Run, optimizer: torch.optim.Optimizer):
    """A scheduler to be stepped after every step or, for `plateau-on-test-loss`, with the loss after every evaluation."""
    if run.recipe["schedule"] == "plateau-on-test-loss":  # mrchntia/ScaleNorm b3c2465, main.py: factor 0.5, patience 3
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    warmup, steps, cosine = run.setting("warmup"), run.recipe["steps"], run.recipe["schedule"] == "cosine"

    def factor(done: int) -> float:
        """Of the learning rate after `done` steps: rises linearly over `warmup` steps, then stays or falls to zero."""
        if done < warmup:
            return (done + 1) / warmup
        return (1 + math.cos(math.pi * (done - warmup) / max(steps - warmup, 1))) / 2 if cosine else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
