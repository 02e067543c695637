"""One form for what can be spelt in several ways: networks, recipes, a study's recipes and seeds, epsilons as keys."""

import json
import math
from dataclasses import asdict

from bench.plan.families import family_of
from bench.plan.spec import RECIPE_DEFAULTS, Model, Norm, epsilon_text, mechanism


def network(model: Model) -> str:
    """A text that two models share exactly when their networks are the same, however they are spelt.

    A norm uses min(groups, channels) groups, so two of them are alike everywhere if they are in the widest place they have,
    which of the user's code is not known.
    """
    family = family_of(model.family)
    channels = family.sum_channels(model.options)
    widest = max((channels[stage - 1] for stage in model.stages), default=math.inf)
    sites = {site: _layer(layer, widest) if isinstance(layer, Norm) else layer for site, layer in sorted(model.sites.items())}
    norm = _layer(model.norm, max(family.norm_channels(model.options), default=math.inf))
    return json.dumps(asdict(model) | {"norm": norm, "sites": sites}, sort_keys=True)


def _layer(norm: Norm, channels: float) -> list:
    """What a norm of so many channels is, `instance` as the groups that it stands for."""
    groups = {"group": norm.groups, "instance": channels}.get(norm.kind)
    if groups is None:
        return [norm.kind, norm.affine]
    return ["group", min(groups, channels), norm.affine]


def recipe(keys: dict) -> dict:
    """The recipe as it identifies a run: without what it means anyway, and the same after a round trip through JSON."""
    keys = keys | {"mechanism": mechanism(keys)}  # of its two parts one may be left out
    stated = {key: value for key, value in keys.items() if key not in RECIPE_DEFAULTS or value != RECIPE_DEFAULTS[key]}
    if "noise_multipliers" in stated:
        # a key that is no epsilon is refused elsewhere
        epsilons = ((epsilon_of(key), value) for key, value in stated["noise_multipliers"].items())
        stated["noise_multipliers"] = {epsilon_text(epsilon): value for epsilon, value in epsilons if epsilon}
    return stated


def recipes_of(study: dict) -> list[str]:
    """The recipes of a configured study, one or a list."""
    return [study["recipe"]] if isinstance(study["recipe"], str) else study["recipe"]


def seeds_of(study: dict) -> list[int]:
    """The seeds of a configured study, a count or a list."""
    return list(range(study["seeds"])) if isinstance(study["seeds"], int) else study["seeds"]


def epsilon_of(key) -> float | None:
    """The epsilon that a key of `noise_multipliers` means, a number or its text; None where it means none."""
    try:
        epsilon = float(key) if isinstance(key, (int, float, str)) and not isinstance(key, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    return epsilon if 0 < epsilon < math.inf else None
