"""From the checked configuration to studies and their runs, and every refusal of what the values mean together."""

import math
from typing import Any

from bench import BenchError, plugins
from bench.plan import canonical, claims, datasets, recipes
from bench.plan.config import did_you_mean, merge, unknown_names
from bench.plan.families import SOURCE_DIGEST, Family, family_of
from bench.plan.spec import Model, Norm, Run, Study, epsilon_text

# Names of rules, which a study, a target like them, cannot have; a test compares them with the workflow.
TARGETS = {
    *("all", "dataset", "calibrate", "train", "summarise", "report", "partial", "speed", "audit", "reference", "verify"),
}


def studies_of(config: dict) -> dict[str, Study]:
    """All studies of a configuration that `bench.plan.config.load` has checked, by name; all refusals in one BenchError."""
    problems: list[str] = []
    studies: dict[str, Study] = {}
    for name, recipe in config["recipes"].items():
        problems += recipes.problems(f"recipes.{name}", recipe, config)
    for name, dataset in config["datasets"].items():
        problems += datasets.problems(f"datasets.{name}", dataset)
    for name, study in config["studies"].items():
        place = f"studies.{name}"
        if name in TARGETS:
            problems.append(f"{place}: {name} is the name of a step of the pipeline; rename the study")
        unknown = unknown_names(f"{place}.recipe", canonical.recipes_of(study), config["recipes"], "recipe")
        unknown += unknown_names(f"{place}.archs", study["archs"], config["archs"], "arch")
        unknown += unknown_names(f"{place}.variants", study["variants"], config["variants"], "variant")
        problems += unknown
        if not unknown:
            runs: list[Run] = []
            for recipe in canonical.recipes_of(study):
                of_recipe, refused = _runs(place, study, recipe, config)
                runs, problems = runs + of_recipe, problems + refused
            studies[name] = Study(name=name, question=study["question"], without_gpu=study["without_gpu"], runs=tuple(runs))
    for name, claim in config["claims"].items():
        problems += claims.problems(f"claims.{name}", claim, config)
    if problems:
        raise BenchError("\n".join(f"config.yaml: {problem}" for problem in dict.fromkeys(problems)))
    return studies


def study_of(config: dict, name: str) -> Study:
    """The study of that name; BenchError with the nearest names where there is none."""
    studies = studies_of(config)
    if name not in studies:
        raise BenchError(f"unknown study {name!r}{did_you_mean(name, studies)}")
    return studies[name]


def model_of(config: dict, arch: str, variant: str) -> Model:
    """The network of `arch` and `variant`; BenchError if it makes no sense."""
    problems = unknown_names("arch", [arch], config["archs"], "arch")
    problems += unknown_names("variant", [variant], config["variants"], "variant")
    if problems:
        raise BenchError("\n".join(problems))
    keys = merge(merge(config["defaults"], config["archs"][arch]), config["variants"][variant])
    place = f"variants.{variant} on archs.{arch}"
    family = family_of(keys["family"])
    wanted = family.options
    if plugins.is_one(keys["family"]):
        keys = {"stage_channels": []} | keys
        wanted = sorted({*family.options, *config["archs"][arch]} - {*config["defaults"], "family"})
    missing = [key for key in wanted if key not in keys]
    if missing:
        raise BenchError(f"archs.{arch}: {', '.join(missing)} is missing: family {keys['family']} needs it")
    strange = sorted(set(keys) - set(wanted) - set(config["defaults"]) - {"family"})
    if strange:
        known = ", ".join(wanted)
        raise BenchError(f"{place}: {strange[0]} means nothing to family {keys['family']} (its own keys: {known})")
    options = {key: keys[key] for key in wanted}
    if plugins.is_one(keys["family"]):
        options[SOURCE_DIGEST] = _source_digest(arch, keys)
    problem = family.problem(options)
    if problem:
        raise BenchError(f"{place}: {problem}")
    norm = Norm.of(keys["norm"])
    sites = {site: _site(place, site, value, keys["norm"]) for site, value in sorted(keys["sites"].items())}
    _check_sites(place, family, options, norm, sites)
    stages = _stages(place, keys["stages"], len(family.sum_channels(options)), bool(sites))
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


def _source_digest(arch: str, keys: dict) -> str:
    if SOURCE_DIGEST in keys:
        raise BenchError(f"archs.{arch}.{SOURCE_DIGEST}: found out by the bench; remove it")
    try:
        return plugins.digest(keys["family"])
    except BenchError as error:
        raise BenchError(f"archs.{arch}.family: {error}") from None


def _check_sites(place: str, family: Family, options: dict, norm: Norm, sites: dict) -> None:
    if "out" in sites and not family.activation_after_sum:
        raise BenchError(f"{place}: sites.out: no activation follows the sum here, so `out` is `sum`; use sites.sum")
    if sites and not family.sum_channels(options):
        raise BenchError(
            f"{place}: sites: nothing says that this network has residual blocks with sites; give its arch stage_channels, "
            "the channels behind the sums of its ResidualBlocks, a number a stage, or leave this variant out"
        )
    if "shared" in sites.values() and norm.kind == "none":
        raise BenchError(f"{place}: a shared site reuses the block's last norm, and norm.kind is none; name a kind")


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


def _runs(place: str, study: dict, recipe_name: str, config: dict) -> tuple[list[Run], list[str]]:
    problems: list[str] = []
    runs: list[Run] = []
    recipe = canonical.recipe(config["recipes"][recipe_name])
    dataset = config["datasets"].get(recipe["dataset"], {})
    identity = {"name": recipe["dataset"]} | {key: value for key, value in dataset.items() if key != "path"}
    # of recipes side by side, those that take the mechanism apart have no epsilon inf of their own
    others = [name for name in canonical.recipes_of(study) if "mechanism" not in canonical.recipe(config["recipes"][name])]
    epsilons = [value for value in study["epsilons"] if not ("mechanism" in recipe and others and math.isinf(value))]
    for arch in study["archs"]:
        seen: dict[str, str] = {}
        for variant in study["variants"]:
            try:
                model = model_of(config, arch, variant)
            except BenchError as error:
                problems.append(str(error))
                continue
            if why := datasets.too_small(model, dataset):
                problems.append(f"{place}: variant {variant} on {arch}: {why}")
            twin = seen.setdefault(canonical.network(model), variant)
            if twin != variant:
                problems.append(f"{place}.variants: {twin} and {variant} are the same network on {arch}; keep one")
            for epsilon in epsilons:
                if model.mixes_samples and math.isfinite(epsilon):
                    problems.append(
                        f"{place}: variant {variant} at epsilon {epsilon_text(epsilon)}: batch norm mixes samples, so one "
                        "person's image moves every sample's gradient and clipping bounds nothing; epsilons: [.inf] only"
                    )
                for seed in canonical.seeds_of(study):
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
    if "mechanism" in recipe and math.inf in epsilons:
        problems.append(
            f"{place}.epsilons: inf: nothing is clipped or noised there, so the mechanism of recipe {recipe_name} changes "
            "nothing; remove .inf here, and train it with a recipe that leaves mechanism out"
        )
    if recipe["budget"] == "as-published":
        published = recipe.get("noise_multipliers", {})
        for epsilon in study["epsilons"]:
            if math.isfinite(epsilon) and epsilon_text(epsilon) not in published:
                problems.append(
                    f"{place}.epsilons: {epsilon_text(epsilon)}: recipe {recipe_name} has no published noise multiplier "
                    f"for it (has: {', '.join(sorted(published, key=float)) or 'none'}); write it, or leave the epsilon out"
                )
    return runs, problems
