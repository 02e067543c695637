"""What the keys of a recipe mean together, and every refusal of it."""

import math

from bench.plan import canonical, datasets
from bench.plan.config import as_number, did_you_mean, unknown_names
from bench.plan.spec import mechanism


def problems(place: str, recipe: dict, config: dict) -> list[str]:
    """Every refusal of what the recipe's keys mean together."""
    found = unknown_names(f"{place}.dataset", [recipe["dataset"]], config["datasets"], "dataset")
    if (recipe["budget"] == "as-published") != ("noise_multipliers" in recipe):
        found.append(f"{place}: noise_multipliers belong to budget: as-published, and to no other; write both or neither")
    if (recipe["budget"] == "proxy") != ("proxy_for_batch_size" in recipe):
        found.append(f"{place}: proxy_for_batch_size belongs to budget: proxy, and to no other; write both or neither")
    if not any(mechanism(recipe).values()):
        found.append(
            f"{place}.mechanism: neither clipping nor noise is what epsilon .inf means; use that, or leave one of them true"
        )
    if recipe["augmentation"] == "none":
        found += [
            f"{place}.{key}: without augmentation it changes nothing; set augmentation: crop-flip or remove {key}"
            for key in ("views", "padding")
            if key in recipe
        ]
    if recipe["schedule"] == "plateau-on-test-loss" and "warmup" in recipe:
        found.append(f"{place}.warmup: the plateau schedule has no warm-up; remove warmup or choose another schedule")
    elif recipe.get("warmup", 0) >= recipe["steps"]:
        found.append(
            f"{place}.warmup: {recipe['warmup']} steps of {recipe['steps']}: the learning rate would never be reached for a "
            "step; choose less than steps"
        )
    found += _key_problems(f"{place}.noise_multipliers", recipe.get("noise_multipliers", {}))
    found += _optimizer_problems(f"{place}.optimizer", recipe["optimizer"])
    dataset = config["datasets"].get(recipe["dataset"], {})
    for key in ("batch_size", "proxy_for_batch_size"):
        if recipe.get(key, 0) > (size := datasets.TRAIN_SIZES.get(dataset.get("source"), math.inf)):
            found.append(f"{place}.{key}: {recipe[key]} exceeds the {size:,} training samples; choose a smaller one")
    return found


def _optimizer_problems(place: str, optimizer: dict) -> list[str]:
    """What torch's optimiser would not take, or takes and cannot mean."""
    found, known = [], OPTIMIZER_ARGUMENTS[optimizer["name"]]
    for key, value in optimizer.items():
        if key == "name":
            continue
        if key not in known:
            found.append(f"{place}: unknown argument {key!r}{did_you_mean(key, known)}")
        elif why := ARGUMENTS[key](value):
            found.append(f"{place}.{key}: {why}")
    if not found and optimizer.get("nesterov") and (not optimizer.get("momentum") or optimizer.get("dampening")):
        found.append(f"{place}.nesterov: it needs a momentum above 0 and no dampening; set them, or remove nesterov")
    return found


def _number(low: float, high: float = math.inf):
    """A function: why a value is no number from `low` to below `high`, None where it is one."""
    limits = f"a number from {low:g}" + (f" to below {high:g}" if math.isfinite(high) else "")

    def why(value) -> str | None:
        if isinstance(value, str):
            return f"{value!r} is text, a number is expected{as_number(value, 'number')}"
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
            return f"{value!r}: {limits} is expected"
        return None

    return why


def _pair(value) -> str | None:
    if isinstance(value, list) and len(value) == 2 and not any(_number(0, 1)(item) for item in value):
        return None
    return f"{value!r}: two numbers from 0 to below 1 are expected, say [0.9, 0.999]"


# As torch.optim names them; a test compares this table with torch's signatures.
OPTIMIZER_ARGUMENTS = {
    "sgd": ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
    "nadam": ("lr", "betas", "eps", "weight_decay", "momentum_decay"),
    "adam": ("lr", "betas", "eps", "weight_decay"),
}
ARGUMENTS = {
    **dict.fromkeys(("lr", "momentum", "weight_decay", "eps", "momentum_decay"), _number(0)),
    "dampening": _number(-math.inf),
    "betas": _pair,
    "nesterov": lambda value: None if isinstance(value, bool) else f"{value!r}: true or false is expected",
}


def _key_problems(place: str, noise_multipliers: dict) -> list[str]:
    """Keys that are no finite epsilon above zero, and such as mean the same one."""
    problems, seen = [], {}
    for key in noise_multipliers:
        epsilon = canonical.epsilon_of(key)
        if epsilon is None:
            problems.append(f"{place}: {key!r} is not an epsilon; a finite number above 0 is expected")
        elif epsilon in seen:
            problems.append(f"{place}: {seen[epsilon]!r} and {key!r} are the same epsilon; keep one")
        else:
            seen[epsilon] = key
    return problems
