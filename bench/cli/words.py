"""Runs, records and claims in words. Rows of (name, text); they know no terminal."""

import math

from bench.plan.claims import Arm, contrast_text, range_text
from bench.plan.spec import Norm, Run, epsilon_text, mechanism

SITES = {
    "skip": "on the skip connection",
    "branch": "on the branch before the sum",
    "sum": "behind the sum",
    "out": "behind the sum's activation",
}
AUGMENTATION = {"none": "no augmentation", "crop-flip": "crops and flips"}


def specification(run: Run) -> list[tuple[str, str]]:
    recipe, model = run.recipe, run.model
    options = ", ".join(f"{key} {value}" for key, value in model.options.items())
    extra = [f"{_layer(layer)} {SITES[site]}" for site, layer in model.sites.items()]
    where = f" of stages {', '.join(map(str, model.stages))}" if extra else ""
    optimizer = recipe["optimizer"]
    arguments = ", ".join(f"{key} {value:g}" for key, value in optimizer.items() if key != "name")
    training = [
        f"{recipe['steps']} steps of {recipe['batch_size']:g} samples expected (Poisson)",
        f"{optimizer['name']} with {arguments}, {recipe['schedule']} schedule",
        f"{AUGMENTATION[recipe['augmentation']]}{_views(run)}",
        *([f"average of the weights with decay {run.setting('ema'):g}"] if run.setting("ema") else []),
        run.setting("precision"),
    ]
    return [
        ("network", f"{run.arch} ({model.family}: {options}), {_layer(model.norm)}, {model.activation}"),
        ("variant", f"{run.variant}: {'; '.join(extra) + where if extra else 'no extra layer'}"),
        ("data", run.dataset["label"]),
        ("training", "; ".join(training)),
        ("privacy", _privacy(run)),
        ("seed", str(run.seed)),
    ]


def _layer(layer: Norm | str) -> str:
    if isinstance(layer, str):
        return {"shared": "the block's last norm again", "scalar": "one learnable gain"}[layer]
    groups = f" of {layer.groups} group{'s' * (layer.groups != 1)}" if layer.groups else ""
    return f"{layer.kind} norm{groups}{'' if layer.affine or layer.kind == 'none' else ' without affine'}"


def _views(run: Run) -> str:
    return f", {run.setting('views')} views of an image" if run.setting("views") > 1 else ""


def _privacy(run: Run) -> str:
    recipe = run.recipe
    if math.isinf(run.epsilon):
        return "none: epsilon inf, no clipping and no noise"
    epsilon = f"epsilon {epsilon_text(run.epsilon)} at delta {recipe['delta']:g}, clip norm {recipe['clip_norm']:g}"
    parts = mechanism(recipe)
    if not all(parts.values()):
        kept, gone = ("noise", "clipping") if parts["noise"] else ("clipping", "noise")
        return f"NOT PRIVATE: {kept} without {gone}; nominal {epsilon}"
    return {
        "calibrated": f"{epsilon}, noise found with the {recipe['accountant'].upper()} accountant",
        "as-published": f"{epsilon} as published, with the published noise; what it spends is computed",
        "proxy": f"NOT PRIVATE: a small batch with the noise of a large one; nominal {epsilon}",
    }[recipe["budget"]]


def outcome(record: dict) -> list[tuple[str, str]]:
    """What a record says: accuracy, epsilons, time, machine, code."""
    result, privacy, cost, where, code = (record[key] for key in ("result", "privacy", "cost", "machine", "provenance"))
    steers = "; the test split steers the schedule" if result["test_split_steers"] else ""
    accuracy = f"{result['accuracy']:.2f} % of the test split{steers}" if result["accuracy"] is not None else "none"
    diverged = [("diverged", result["reason"])] if record["status"] == "diverged" else []
    dirty = " with uncommitted changes" if code["dirty"] else ""
    return [
        *diverged,
        ("accuracy", accuracy),
        ("epsilon spent", f"{_spent(privacy['epsilon_rdp'])} by RDP, {_spent(privacy['epsilon_pld'])} by PLD accounting"),
        ("time", f"{cost['seconds']:.0f} s, {cost['images_per_second']:.0f} images a second"),
        ("machine", f"{where['device_name']}, {where['threads']} thread{'s' * (where['threads'] != 1)}"),
        ("code", f"commit {code['commit'][:12]}{dirty}, finished {code['finished']}"),
    ]


def _spent(value) -> str:
    return "-" if value is None else f"{float(value):.4g}"


def pair(record: dict, other: dict | None, seed: int) -> str:
    """The run beside the baseline of its seed."""
    if other is None:
        return f"baseline with seed {seed} has not finished"
    mine, theirs = (item["result"]["accuracy"] for item in (record, other))
    if mine is None or theirs is None:
        return f"baseline with seed {seed}: one of the two diverged"
    return f"baseline with seed {seed}: {theirs:.2f} %; this run differs by {mine - theirs:+.2f} points"


def claim(content: dict, recipe: str) -> list[tuple[str, str]]:
    told = range_text(*map(float, content["range"]))
    contrast = f"{contrast_text(content)}, {recipe}/{content['arch']}"
    found = [("found by", f"study {content['found_by']}; tested on other seeds")] if "found_by" in content else []
    return [
        ("statement", content["statement"]),
        ("source", content["source"]),
        *found,
        ("contrast", f"{contrast}, epsilon {epsilon_text(content['epsilon'])} (study {content['study']})"),
        (
            "rule",
            f"supported if the 95 % interval of the difference, paired by seed, lies {told}, also among all claims of the "
            "study (Holm); contradicted if it lies outside; not resolved otherwise, and until all its pairs have finished",
        ),
    ]


def arm(sign: int, side: Arm, first: Arm) -> str:
    """'- baseline eps8': an arm of a contrast, with what it differs by from the first one besides its variant."""
    extra = [f"eps{side.epsilon}"] if side.epsilon != first.epsilon else []
    extra += [value for value, other in ((side.recipe, first.recipe), (side.arch, first.arch)) if value != other]
    return " ".join([*(["-"] if sign < 0 else []), side.variant, *extra])


def verdict(decided: dict) -> str:
    """'not resolved: 3 of 12 paired seeds have finished; difference +0.42 points'."""
    n = decided["difference_n"]
    numbers = f"; difference {decided['difference']:+.2f} points over {n} pair{'s' * (n != 1)}" if n else ""
    if not math.isnan(decided["difference_low"]):
        numbers += f", 95 % interval [{decided['difference_low']:+.2f}, {decided['difference_high']:+.2f}]"
    return f"{decided['verdict']}: {decided['reason']}{numbers}"
