"""Finished runs in the working directory, made up, whose numbers follow from each other as an import wants them."""

import json
import math

from bench.evidence import images, records
from bench.training import recipe
from bench.training.loop import private
from tests.factory import record_of

TRAIN, TEST = 1437, 360


def honest(run, right: int) -> dict:
    """The record of `run` with so many of the test images right, as files hold it."""
    record = record_of(run, 100 * right / TEST)
    finite = math.isfinite(run.epsilon)
    sigma = recipe.noise_of(run, TRAIN)["noise_multiplier"] if finite else 0.0
    rate = recipe.sample_rate(run.recipe, TRAIN)
    spent = recipe.privacy_of(run.recipe, rate, sigma, run.recipe["steps"])
    record["privacy"] |= {"noise_multiplier": sigma, "sample_rate": rate, "private": private(run)} | spent
    record["result"]["correct"] = images.pack([i < right for i in range(TEST)])
    return json.loads(json.dumps(records._finite({"format": records.FORMAT} | record)))


def finished(runs, accuracy=lambda run: 70.0 + run.seed) -> None:
    """Records of `runs` where a pipeline leaves them."""
    for run in runs:
        records.write(record_of(run, accuracy(run)), run.path)
