"""What a claim compares: arms of its study with a sign each, and the range of differences that its sentence speaks of."""

import math
from dataclasses import dataclass

from bench.plan import canonical
from bench.plan.config import unknown_names
from bench.plan.spec import epsilon_text, why_not_private

LESS = ", less the same with "  # in the text of a contrast of gains
ARM = ("recipe", "arch", "variant", "epsilon")  # what names an arm of a study


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Runs of a study that differ by their seed only; `epsilon` as `epsilon_text` gives it."""

    recipe: str
    arch: str
    variant: str
    epsilon: str

    def with_changes(self, changes: dict) -> "Arm":
        return Arm(**{key: changes.get(key, getattr(self, key)) for key in ARM})


def arms_of(claim: dict, recipe: str) -> list[tuple[int, Arm]]:
    """The claim's contrast: (sign, arm) of each of its two arms, or of four where it has `less`.

    `recipe` is that of the claim's study where the claim names none. The value of a seed is the sum of its signed accuracies.
    """
    keys = {key: claim[key] for key in ("arch", "variant")} | {"recipe": claim.get("recipe", recipe)}
    first = Arm(**keys, epsilon=epsilon_text(claim["epsilon"]))
    second = first.with_changes(_changes(claim["against"]))
    arms = [(1, first), (-1, second)]
    if "less" in claim:
        less = _changes(claim["less"])
        arms += [(-sign, arm.with_changes(less)) for sign, arm in arms]
    return arms


def _changes(value: str | dict) -> dict:
    changes = {"variant": value} if isinstance(value, str) else dict(value)
    return changes | ({"epsilon": epsilon_text(changes["epsilon"])} if "epsilon" in changes else {})


def test_of(low: float, high: float) -> str:
    """What statisticians call a claim that the difference lies between `low` and `high`, in points."""
    if math.isinf(low) and math.isinf(high):
        raise ValueError("a range without ends claims nothing")
    if math.isinf(high):
        return "superiority" if low >= 0 else "non-inferiority"
    if math.isinf(low):
        return "inferiority" if high <= 0 else "non-superiority"
    return "equivalence"


def range_text(low: float, high: float) -> str:
    """'above 0 points', 'below 1 point', 'between 0.5 and 1.5 points'."""
    if math.isinf(high):
        return f"above {low:g} {_points(low)}"
    if math.isinf(low):
        return f"below {high:g} {_points(high)}"
    return f"between {low:g} and {high:g} points"


def _points(number: float) -> str:
    return "point" if number == 1 else "points"


def contrast_text(claim: dict) -> str:
    """'scalenorm minus baseline', with what else the two sides differ by, and what is taken off."""
    against, told = _changes(claim["against"]), ""
    other = against.get("variant", claim["variant"])
    extra = [f"{key} {value}" for key, value in against.items() if key != "variant"]
    told = f"{claim['variant']} minus {other}{' with ' + ', '.join(extra) if extra else ''}"
    if "less" in claim:
        told += f"{LESS}{', '.join(f'{key} {value}' for key, value in _changes(claim['less']).items())}"
    return told


def problems(place: str, claim: dict, config: dict) -> list[str]:
    """Every refusal of what the claim's keys mean together."""
    found = unknown_names(f"{place}.study", [claim["study"]], config["studies"], "study")
    if "found_by" in claim:
        found += unknown_names(f"{place}.found_by", [claim["found_by"]], config["studies"], "study")
    if found:
        return found
    study = config["studies"][claim["study"]]
    recipes = canonical.recipes_of(study)
    if len(recipes) > 1 and "recipe" not in claim:
        found.append(f"{place}.recipe: study {claim['study']} has several; name one of {', '.join(recipes)}")
    parts = [("", claim), *((f".{key}", claim[key]) for key in ("against", "less") if isinstance(claim.get(key), dict))]
    known = {"recipe": recipes, "arch": study["archs"], "variant": study["variants"]}
    for inside, part in parts:
        for key, names in known.items():
            if key in part:
                found += unknown_names(f"{place}{inside}.{key}", [part[key]], names, f"{key} of its study")
        if "epsilon" in part and part["epsilon"] not in study["epsilons"]:
            wrong = f"{place}{inside}.epsilon: {epsilon_text(part['epsilon'])} is not an epsilon of study {claim['study']}"
            found.append(f"{wrong} (known: {', '.join(map(epsilon_text, study['epsilons']))})")
    if isinstance(claim["against"], str):
        found += unknown_names(f"{place}.against", [claim["against"]], study["variants"], "variant of its study")
    if found:
        return found
    arms = [arm for _, arm in arms_of(claim, recipes[0])]
    if len(set(arms)) < len(arms):
        found.append(f"{place}: two sides of its contrast are the same arm; name two that differ")
    not_private = {arm.recipe: why_not_private(config["recipes"].get(arm.recipe, {"budget": ""})) for arm in arms}
    for recipe, why in not_private.items():
        if why and claim.get("private", True):
            found.append(
                f"{place}.recipe: runs of {recipe} are not private ({why}); a claim about them says so: private: false"
            )
    if not claim.get("private", True) and not any(not_private.values()):
        found.append(f"{place}.private: false, and all its runs are private; remove it")
    proxies = [arm.recipe for arm in arms if config["recipes"].get(arm.recipe, {}).get("budget") == "proxy"]
    if proxies:
        found.append(
            f"{place}.recipe: {proxies[0]} is a search for learning rates (budget: proxy), it decides no claim; name another"
        )
    return found + _range_problems(f"{place}.range", claim["range"]) + _found_by_problems(place, claim, config)


def _range_problems(place: str, ends: list[float]) -> list[str]:
    low, high = ends
    if any(math.isnan(end) for end in ends) or low >= high or (math.isinf(low) and math.isinf(high)):
        return [
            f"{place}: {ends}: two rising numbers of points are expected, one of them finite, say [0, .inf] or [-0.5, 0.5]"
        ]
    return []


def _found_by_problems(place: str, claim: dict, config: dict) -> list[str]:
    """What a study suggested is tested on seeds that it did not use."""
    if "found_by" not in claim:
        return []
    studies = [config["studies"][claim[key]] for key in ("study", "found_by")]
    new, old = (set(canonical.seeds_of(study)) for study in studies)
    shared = sorted(new & old) if set(canonical.recipes_of(studies[0])) & set(canonical.recipes_of(studies[1])) else []
    return [
        f"{place}.found_by: study {claim['study']} uses seed {seed}, from which {claim['found_by']} found the claim; "
        "give it seeds of its own"
        for seed in shared[:1]
    ]
