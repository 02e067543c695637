"""What a run is: frozen specifications made from the configuration, and every refusal with its sentence.

No torch in here: the Snakefile imports this module to build its graph.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import RESULTS_VERSION, BenchError
from bench.config import did_you_mean, merge

SITES = ("skip", "branch", "sum", "out")


@dataclass(frozen=True, kw_only=True)
class Family:
    """What must be known of a network family before it is built, to refuse what makes no sense."""

    options: tuple[str, ...]  # the keys of an arch or variant that only this family has; all are required
    norm_channels: Callable[[dict], set[int]]  # options -> channels of every norm layer, extra sites included
    stages: Callable[[dict], int]  # options -> groups of residual blocks that `stages` counts
    activation_after_sum: bool
    problem: Callable[[dict], str | None] = lambda options: None  # options -> why there is no such network


FAMILIES = {
    "resnet9": Family(
        options=("width",),
        norm_channels=lambda options: {options["width"] * k for k in (1, 2, 4)},
        stages=lambda options: 2,
        activation_after_sum=False,
    ),
    "wide_resnet": Family(
        options=("depth", "width", "order", "shortcut", "weight_standardisation"),
        norm_channels=lambda options: {16, *(options["width"] * c for c in (16, 32, 64))},
        stages=lambda options: 3,
        activation_after_sum=False,
        problem=lambda options: (
            None
            if options["depth"] >= 10 and options["depth"] % 6 == 4
            else f"depth: {options['depth']}: three stages of equal size need 6 n + 4 layers: 10, 16, 22, 28, 34, 40, ..."
        ),
    ),
    "resnet": Family(
        options=("depth", "width", "stem"),
        norm_channels=lambda options: {
            options["width"] * k for k in ((1, 2, 4, 8, 16, 32) if options["depth"] == 50 else (1, 2, 4, 8))
        },
        stages=lambda options: 4,
        activation_after_sum=True,
        problem=lambda options: (
            None if options["depth"] in (18, 34, 50) else f"depth: {options['depth']}: 18, 34 and 50 are known"
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A normalisation layer; `groups` counts only for kind `group`, where min(groups, channels) are used."""

    kind: str
    groups: int | None = None
    affine: bool = True

    @classmethod
    def of(cls, keys: dict) -> "Norm":
        if keys["kind"] == "layer":  # one group over all channels: the same network, hence the same spec
            return cls(kind="group", groups=1, affine=keys["affine"])
        groups = keys["groups"] if keys["kind"] == "group" else None
        return cls(kind=keys["kind"], groups=groups, affine=keys["affine"] and keys["kind"] != "none")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network: family, its options (width, say) and what the variant made of the defaults."""

    family: str
    options: dict[str, int | str | bool]
    activation: str
    norm: Norm
    sites: dict[str, Norm | str]  # site -> a norm, 'shared' or 'scalar'
    stages: tuple[int, ...]  # stages whose blocks have the sites

    @property
    def mixes_samples(self) -> bool:
        norms = [self.norm, *(site for site in self.sites.values() if isinstance(site, Norm))]
        return any(norm.kind == "batch" for norm in norms)


# What a recipe means where it does not say. A key that says the same is left out of a run's identity, so that a new key
# with its default retrains nothing. Another default needs another RESULTS_VERSION.
RECIPE_DEFAULTS = {
    "views": 1,  # augmented copies of an image that make one sample
    "padding": "symmetric",  # of the random crop
    "warmup": 0,  # steps
    "ema": None,  # decay of the average of the weights that is evaluated
    "precision": "float32",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run. `resolved()` holds all that decides its numbers and identifies it."""

    recipe_name: str
    arch: str
    variant: str
    epsilon: float
    seed: int
    recipe: dict
    dataset: dict
    model: Model

    @property
    def id(self) -> str:
        return f"{self.recipe_name}/{self.arch}/{self.variant}/eps{epsilon_text(self.epsilon)}/seed{self.seed}"

    def setting(self, key: str):
        """The recipe's value of `key`, or what it means where the recipe does not say."""
        return self.recipe[key] if key in self.recipe else RECIPE_DEFAULTS[key]

    @property
    def path(self) -> Path:
        """Of its record, relative to the working directory."""
        return Path(f"results/runs/{self.id}.json")

    def resolved(self) -> dict:
        return {
            "results_version": RESULTS_VERSION,
            "id": self.id,
            "recipe": self.recipe,
            "dataset": self.dataset,
            "model": asdict(self.model),
            "epsilon": epsilon_text(self.epsilon),
            "seed": self.seed,
        }

    def json(self) -> str:
        """The sorted JSON of `resolved()`: the training rule's only parameter."""
        return json.dumps(self.resolved(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """The run that `json()` described. Raises BenchError for another RESULTS_VERSION or a damaged text."""
        try:
            data = json.loads(text)
            if data["results_version"] != RESULTS_VERSION:
                raise BenchError(f"results version {data['results_version']}, this is {RESULTS_VERSION}: train again")
            recipe_name, arch, variant, _, _ = data["id"].split("/")
            model = data["model"]
            sites = {k: v if isinstance(v, str) else Norm(**v) for k, v in model["sites"].items()}
            model = Model(**model | {"norm": Norm(**model["norm"]), "sites": sites, "stages": tuple(model["stages"])})
        except (KeyError, ValueError, TypeError) as error:
            raise BenchError(f"not the specification of a run: {error!r}") from None
        return cls(
            recipe_name=recipe_name,
            arch=arch,
            variant=variant,
            epsilon=float(data["epsilon"]),
            seed=data["seed"],
            recipe=data["recipe"],
            dataset=data["dataset"],
            model=model,
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question and the runs that answer it."""

    name: str
    question: str
    without_gpu: str
    runs: tuple[Run, ...]


def epsilon_text(epsilon: float) -> str:
    """'8', '7.42' or 'inf': the one spelling used in paths, records and tables."""
    return format(float(epsilon), "g")


def resolve(config: dict) -> dict[str, Study]:
    """All studies of a configuration that `bench.config.load` has checked, by name; all refusals in one BenchError."""
    problems: list[str] = []
    studies: dict[str, Study] = {}
    for name, recipe in config["recipes"].items():
        problems += _recipe_problems(f"recipes.{name}", recipe, config)
    for name, study in config["studies"].items():
        place = f"studies.{name}"
        unknown = _unknown(f"{place}.recipe", recipes_of(study), config["recipes"], "recipe")
        unknown += _unknown(f"{place}.archs", study["archs"], config["archs"], "arch")
        unknown += _unknown(f"{place}.variants", study["variants"], config["variants"], "variant")
        problems += unknown
        if not unknown:
            runs: list[Run] = []
            for recipe in recipes_of(study):
                of_recipe, refused = _runs(place, study, recipe, config)
                runs, problems = runs + of_recipe, problems + refused
            studies[name] = Study(name=name, question=study["question"], without_gpu=study["without_gpu"], runs=tuple(runs))
    for name, claim in config["claims"].items():
        problems += _claim_problems(f"claims.{name}", claim, config)
    if problems:
        raise BenchError("\n".join(f"config.yaml: {problem}" for problem in dict.fromkeys(problems)))
    return studies


def model_of(config: dict, arch: str, variant: str) -> Model:
    """The network of `arch` and `variant`; BenchError if it makes no sense."""
    problems = _unknown("arch", [arch], config["archs"], "arch")
    problems += _unknown("variant", [variant], config["variants"], "variant")
    if problems:
        raise BenchError("\n".join(problems))
    keys = merge(merge(config["defaults"], config["archs"][arch]), config["variants"][variant])
    place = f"variants.{variant} on archs.{arch}"
    family = FAMILIES[keys["family"]]
    missing = [key for key in family.options if key not in keys]
    if missing:
        raise BenchError(f"archs.{arch}: {', '.join(missing)} is missing: family {keys['family']} needs it")
    strange = sorted(set(keys) - set(family.options) - set(config["defaults"]) - {"family"})
    if strange:
        known = ", ".join(family.options)
        raise BenchError(f"{place}: {strange[0]} means nothing to family {keys['family']} (its own keys: {known})")
    options = {key: keys[key] for key in family.options}
    problem = family.problem(options)
    if problem:
        raise BenchError(f"{place}: {problem}")
    norm = Norm.of(keys["norm"])
    sites = {site: _site(place, site, value, keys["norm"]) for site, value in sorted(keys["sites"].items())}
    _check_sites(place, family, norm, sites)
    stages = _stages(place, keys["stages"], family.stages(options), bool(sites))
    for layer in (norm, *sites.values()):
        if isinstance(layer, Norm) and layer.kind == "group":
            for channels in sorted(family.norm_channels(options)):
                if channels % min(layer.groups, channels):
                    raise BenchError(f"{place}: {layer.groups} groups do not divide {channels} channels; choose a divisor")
    return Model(
        family=keys["family"], options=options, activation=keys["activation"], norm=norm, sites=sites, stages=stages
    )  # fmt: skip


def _site(place: str, site: str, value: Any, norm: dict) -> Norm | str:
    if value in ("shared", "scalar"):
        return value
    keys = norm if value == "norm" else norm | value
    if keys["kind"] == "none":
        raise BenchError(f"{place}: sites.{site}: there is no ordinary norm to repeat (norm.kind is none); name a kind")
    return Norm.of(keys)


def _check_sites(place: str, family: Family, norm: Norm, sites: dict) -> None:
    if "out" in sites and not family.activation_after_sum:
        raise BenchError(f"{place}: sites.out: no activation follows the sum here, so `out` is `sum`; use sites.sum")
    if "shared" in sites.values() and norm.kind == "none":
        raise BenchError(f"{place}: a shared site re-uses the block's last norm, and norm.kind is none")


def _stages(place: str, value: Any, count: int, has_sites: bool) -> tuple[int, ...]:
    everywhere = tuple(range(1, count + 1))
    if value == "all":
        return everywhere
    if not has_sites:
        raise BenchError(f"{place}: stages: {value} without sites changes nothing; add sites or remove stages")
    stages = sorted({{"first": 1, "last": count}.get(stage, stage) for stage in value})
    if stages[-1] > count:
        raise BenchError(f"{place}: stages: {stages[-1]}: the network has stages 1 to {count}")
    return tuple(stages)


def recipes_of(study: dict) -> list[str]:
    """The recipes of a configured study, one or a list."""
    return [study["recipe"]] if isinstance(study["recipe"], str) else study["recipe"]


def _runs(place: str, study: dict, recipe_name: str, config: dict) -> tuple[list[Run], list[str]]:
    problems: list[str] = []
    runs: list[Run] = []
    recipe = {k: v for k, v in config["recipes"][recipe_name].items() if k not in RECIPE_DEFAULTS or v != RECIPE_DEFAULTS[k]}
    dataset = config["datasets"].get(recipe["dataset"], {})
    identity = {"name": recipe["dataset"]} | {key: value for key, value in dataset.items() if key != "path"}
    seeds = range(study["seeds"]) if isinstance(study["seeds"], int) else study["seeds"]
    for arch in study["archs"]:
        seen: dict[str, str] = {}
        for variant in study["variants"]:
            try:
                model = model_of(config, arch, variant)
            except BenchError as error:
                problems.append(str(error))
                continue
            twin = seen.setdefault(json.dumps(asdict(model), sort_keys=True), variant)
            if twin != variant:
                problems.append(f"{place}.variants: {twin} and {variant} are the same network on {arch}; keep one")
            for epsilon in study["epsilons"]:
                if model.mixes_samples and math.isfinite(epsilon):
                    problems.append(
                        f"{place}: variant {variant} at epsilon {epsilon_text(epsilon)}: batch norm mixes samples, so one "
                        "person's image moves every sample's gradient and clipping bounds nothing; epsilons: [.inf] only"
                    )
                for seed in seeds:
                    runs.append(
                        Run(
                            recipe_name=recipe_name,
                            arch=arch,
                            variant=variant,
                            epsilon=float(epsilon),
                            seed=seed,
                            recipe=recipe,
                            dataset=identity,
                            model=model,
                        )
                    )
    if recipe["budget"] == "as-published":
        published = {epsilon_text(float(key)) for key in recipe.get("noise_multipliers", {})}
        for epsilon in study["epsilons"]:
            if math.isfinite(epsilon) and epsilon_text(epsilon) not in published:
                problems.append(
                    f"{place}.epsilons: {epsilon_text(epsilon)}: recipe {recipe_name} has no published noise multiplier "
                    f"for it (has: {', '.join(sorted(published)) or 'none'})"
                )
    return runs, problems


def _recipe_problems(place: str, recipe: dict, config: dict) -> list[str]:
    problems = _unknown(f"{place}.dataset", [recipe["dataset"]], config["datasets"], "dataset")
    if (recipe["budget"] == "as-published") != ("noise_multipliers" in recipe):
        problems.append(f"{place}: noise_multipliers belong to budget: as-published, and to no other")
    if (recipe["budget"] == "proxy") != ("proxy_for_batch_size" in recipe):
        problems.append(f"{place}: proxy_for_batch_size belongs to budget: proxy, and to no other")
    if recipe["augmentation"] == "none":
        problems += [
            f"{place}.{key}: without augmentation it changes nothing; set augmentation: crop-flip or remove {key}"
            for key in ("views", "padding")
            if key in recipe
        ]
    if recipe["schedule"] == "plateau-on-test-loss" and "warmup" in recipe:
        problems.append(f"{place}.warmup: the plateau schedule has no warm-up; remove warmup or choose another schedule")
    for key in recipe.get("noise_multipliers", {}):
        try:
            float(key)
        except ValueError:
            problems.append(f"{place}.noise_multipliers: {key!r} is not an epsilon")
    known = OPTIMIZER_ARGUMENTS[recipe["optimizer"]["name"]]
    for key, value in recipe["optimizer"].items():
        if key not in ("name", *known):
            problems.append(f"{place}.optimizer: unknown argument {key!r}{did_you_mean(key, known)}")
        elif isinstance(value, str) and key != "name":
            problems.append(f"{place}.optimizer.{key}: {value!r} is text, a number is expected")
    return problems


# As torch.optim names them; a test compares this table with torch's signatures.
OPTIMIZER_ARGUMENTS = {
    "sgd": ("lr", "momentum", "dampening", "weight_decay", "nesterov"),
    "nadam": ("lr", "betas", "eps", "weight_decay", "momentum_decay"),
    "adam": ("lr", "betas", "eps", "weight_decay"),
}


def _claim_problems(place: str, claim: dict, config: dict) -> list[str]:
    problems = _unknown(f"{place}.study", [claim["study"]], config["studies"], "study")
    if problems:
        return problems
    study = config["studies"][claim["study"]]
    recipes = recipes_of(study)
    if len(recipes) > 1 and "recipe" not in claim:
        problems.append(f"{place}.recipe: study {claim['study']} has several; name one of {', '.join(recipes)}")
    problems += _unknown(f"{place}.recipe", [claim.get("recipe", recipes[0])], recipes, "recipe of its study")
    budget = config["recipes"].get(claim.get("recipe", recipes[0]), {}).get("budget")
    if budget == "proxy":
        problems.append(
            f"{place}.recipe: its runs are not private (budget: proxy), so they decide no claim about private ones"
        )
    problems += _unknown(f"{place}.arch", [claim["arch"]], study["archs"], "arch of its study")
    for key in ("variant", "against"):
        problems += _unknown(f"{place}.{key}", [claim[key]], study["variants"], "variant of its study")
    if claim["epsilon"] not in study["epsilons"]:
        problems.append(f"{place}.epsilon: {epsilon_text(claim['epsilon'])} is not an epsilon of study {claim['study']}")
    return problems


def _unknown(place: str, names: list, known, what: str) -> list[str]:
    return [f"{place}: unknown {what} {name!r}{did_you_mean(name, known)}" for name in names if name not in known]
