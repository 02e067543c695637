"""The noise multiplier that `calibrate` writes once and many runs use: with what it was made for, checked by every run."""

import json
import math
import shlex
from pathlib import Path

from bench import BenchError
from bench.plan.spec import Run, epsilon_text
from bench.terminal import command
from bench.training.recipe import noise_of


def facts(run: Run, train_size: int) -> dict:
    """The noise of `run`'s budget on `train_size` samples, what it spends, and, as `made_for`, all that decides it."""
    return noise_of(run, train_size) | {"made_for": _made_for(run, train_size)}


def read(path: Path, run: Run, train_size: int) -> float:
    """The noise multiplier in the file at `path`; BenchError unless it was made for the budget of `run` and `train_size`."""
    made = f"{command('calibrate', run.recipe_name, epsilon_text(run.epsilon))} --out {shlex.quote(str(path))}"
    way_out = f"`{made}` makes it anew"
    try:
        found = json.loads(path.read_text())
        sigma, made_for = found["noise_multiplier"], dict(found["made_for"])
        if isinstance(sigma, bool) or not (isinstance(sigma, (int, float)) and 0 <= sigma < math.inf):
            raise ValueError(f"noise_multiplier {sigma!r}")
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}; {way_out}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: not what `calibrate` writes ({error}); {way_out}") from None
    expected = _made_for(run, train_size)
    different = [key for key in sorted(expected | made_for) if made_for.get(key) != expected.get(key)]
    if different:
        values = ", ".join(f"{key} {made_for.get(key)} (this run: {expected.get(key)})" for key in different)
        raise BenchError(f"{path}: this noise was made for {values}: the run would not spend its epsilon; {way_out}")
    return float(sigma)


def _made_for(run: Run, train_size: int) -> dict:
    return run.budget() | {"train_size": train_size}
