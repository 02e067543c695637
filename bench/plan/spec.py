"""What a run is: frozen specifications, and the text that identifies each."""

import json
import math
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from bench import RESULTS_VERSION, BenchError

SITES = ("skip", "branch", "sum", "out")
RUN_ID = "{recipe}/{arch}/{variant}/eps{epsilon}/seed{seed}"  # of `Run.identity`, or of a row of runs.csv


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
    "mechanism": {"clip": True, "noise": True},  # without either a run is not private: it says where the loss comes from
}


# Keys of a recipe that decide its noise multiplier, `noise_multipliers` aside; a test watches what `noise_of` reads.
BUDGET = ("batch_size", "steps", "delta", "budget", "accountant", "proxy_for_batch_size", "mechanism")


def mechanism(recipe: dict) -> dict:
    """Whether the recipe clips and adds noise, {clip, noise}."""
    return RECIPE_DEFAULTS["mechanism"] | recipe.get("mechanism", {})


def why_not_private(recipe: dict) -> str | None:
    """The keys by which runs of this recipe do not keep the epsilon that they name; None where they keep it.

    (Epsilon inf names none. Everything that marks runs as not private asks here.)
    """
    if recipe["budget"] == "proxy":
        return "budget: proxy"
    missing = [f"{part}: false" for part, present in mechanism(recipe).items() if not present]
    return f"mechanism: {{{', '.join(missing)}}}" if missing else None


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
        return RUN_ID.format(**self.identity)

    @property
    def identity(self) -> dict:
        """What tables name a run by: recipe, arch, variant, epsilon as `epsilon_text` gives it, seed."""
        names = {"recipe": self.recipe_name, "arch": self.arch, "variant": self.variant}
        return names | {"epsilon": epsilon_text(self.epsilon), "seed": self.seed}

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

    def budget(self) -> dict:
        """What decides the run's noise multiplier, the number of training samples aside: plain values, as JSON has them."""
        stated = {key: self.recipe[key] for key in BUDGET if key in self.recipe}
        epsilon = epsilon_text(self.epsilon)
        published = self.recipe.get("noise_multipliers", {})
        stated |= {"published": published[epsilon]} if epsilon in published else {}
        return {"results_version": RESULTS_VERSION, "epsilon": epsilon} | stated

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
    """'8', '7.42', '0.00001' or 'inf': the one spelling used in identities, paths, records and tables.

    The fewest digits that give this very number back, without an exponent: no two epsilons share a text.
    """
    return "inf" if math.isinf(epsilon) else format(Decimal(repr(float(epsilon))), "f").removesuffix(".0")
