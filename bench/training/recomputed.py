"""What a record states and its other numbers give again: epsilon from noise, rate and steps, accuracy from the image bits."""

import json
import math

from bench import BenchError
from bench.evidence import images
from bench.plan.spec import Run, mechanism
from bench.training import recipe
from bench.training.loop import private

# Relative differences that are none: RDP is a sum in double precision, the ledger's other numbers follow PLD's grid.
SAME = {"epsilon_rdp": 1e-7, "epsilon_pld": 1e-4, "mu": 1e-4, "mu_regret": 1e-2, "tpr_at_1_percent_fpr": 1e-4}
ROUNDED = 2e-6  # the ledger has six decimals


def disagreements(record: dict) -> list[str]:
    """A sentence with the run's id and both values for every number that the rest contradicts; [] if honest.

    Recomputed are the privacy statement and everything about accuracy. What only training could give again is not.
    """
    try:
        run = Run.from_json(json.dumps(record["run"]))
        expected = {"privacy": _privacy(run, record), "result": _result(record)}
        found = {section: record[section] for section in expected}
        pairs = [(f"{s}.{key}", found[s].get(key), value) for s, part in expected.items() for key, value in part.items()]
        problems = [f"{place}: {stated!r}, and {value!r} follows from the rest" for place, stated, value in pairs
                    if not _same(place.partition(".")[2], stated, value)]  # fmt: skip
        spent = float(record["privacy"][f"epsilon_{run.recipe['accountant']}"])
        if private(run) and run.recipe["budget"] == "calibrated" and spent > run.epsilon * (1 + SAME["epsilon_pld"]):
            problems.append(f"privacy: epsilon {spent:g} is spent, and the run's is {run.epsilon:g}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, BenchError) as error:
        problems = [f"cannot be recomputed ({error!r})"]
    return [f"{record['run']['id']}: {problem}" for problem in problems]


def _privacy(run: Run, record: dict) -> dict:
    """The privacy statement that the run's specification, its data's size and its noise multiplier give."""
    stated, size = record["privacy"], record["data"]["train_size"]
    finite, parts = math.isfinite(run.epsilon), mechanism(run.recipe)
    rate = recipe.sample_rate(run.recipe, size)
    sigma, steps = float(stated["noise_multiplier"]), run.recipe["steps"]
    if record["status"] == "diverged":
        steps = min(int(stated["steps"]), steps)
    if not (finite and parts["noise"]):
        sigma = 0.0
    elif run.recipe["budget"] == "as-published":
        sigma = {float(key): value for key, value in run.recipe["noise_multipliers"].items()}[run.epsilon]
    return {
        "noise_multiplier": sigma,
        "sample_rate": rate,
        "steps": steps,
        "train_size": size,
        "delta": run.recipe["delta"],
        "clip_norm": run.recipe["clip_norm"] if finite and parts["clip"] else math.inf,
        "private": private(run),
        **recipe.privacy_of(run.recipe, rate, sigma, steps),
    }


def _result(record: dict) -> dict:
    """Accuracies that the image bits and the curve give."""
    curve = [point["accuracy"] for point in record["curve"]]
    best = {"best_epoch_accuracy": max(curve)} if curve else {}
    if record["status"] != "completed":
        return best | {"accuracy": None}
    right = images.unpack(record)
    accuracy = curve[-1] if right is None else 100 * int(right.sum()) / len(right)
    if not math.isclose(curve[-1], accuracy, rel_tol=1e-12):
        raise ValueError(f"its curve ends at {curve[-1]} %, its image bits say {accuracy} %")
    return best | {"accuracy": accuracy}


def _same(key: str, stated, value) -> bool:
    if value is None or isinstance(value, bool) or stated is None or isinstance(stated, bool):
        return stated is value
    stated, value = float(stated), float(value)  # 'inf' is a text in JSON
    return stated == value or math.isclose(stated, value, rel_tol=SAME.get(key, 1e-12), abs_tol=ROUNDED if key in SAME else 0)
