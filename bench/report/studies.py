"""What the page says about one study: its plan, its arms, its figures, from the records here and from our reference."""

import json
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd
import yaml

from bench.evidence import columns, mechanism, over_steps
from bench.evidence.stats import LEVEL
from bench.evidence.summary import Bits, of_study
from bench.plan import spec
from bench.report import dynamics, figures, values
from bench.report.contrasts import matrices
from bench.report.drawing import Draw, Figure
from bench.report.formats import listing, number, significant
from bench.report.words import NOT_PRIVATE, badges, count, epsilon, nominal, plural, steers, unique

IDENTITY = ["recipe", "arch", "variant", "epsilon", "seed"]


def gather(study: spec.Study, found: dict, read: dict, reference: pd.DataFrame, bits: Bits, looks: dict, draw: Draw) -> dict:
    """A study's plan, its records among `found`, and its views: `here` and, where `reference` has runs of it, `reference`.

    `read` are the tables by name. A view has `runs`, `summary` and `rows`, the summary's with rising epsilon; one without
    runs is left out. `bits` are those of the reference, as `summary.bits_of` gives them; `draw` is what `drawing` gives.
    """
    here = [found[run.id] for run in study.runs if run.id in found]
    summary = read["summary"]
    views = {"here": {"runs": columns.frame(here), "summary": summary[summary["study"] == study.name]}}
    if len(reference):
        planned = pd.DataFrame([run.identity for run in study.runs])
        known = planned.merge(reference, on=IDENTITY)
        views["reference"] = {"runs": known, "summary": of_study(known, study.name, bits)}
    not_run = read["not_run"]
    missing = not_run[not_run["study"] == study.name].to_dict("records")
    measured = _measured(here, views)
    return {
        "name": study.name,
        "question": study.question,
        "recipes": {run.recipe_name: spec.RECIPE_DEFAULTS | run.recipe for run in study.runs},
        "plan": {key: unique(run.identity[key] for run in study.runs) for key in IDENTITY},
        "total": len(study.runs),
        "records": here,
        "missing": missing[0] if missing else None,
        "views": {
            origin: view | {"rows": _by_epsilon(view["summary"])} for origin, view in views.items() if len(view["runs"])
        },
        "figures": _figures(study.name, views, measured, looks, draw),
        "values": {name: table(points) for name, (points, _, table) in measured.items() if len(points)},
        "specification": _specification(study),
    }


def section(study: dict, official: set[str], names: dict[str, str]) -> dict:
    """What the page prints about a study that `gather` gave: the facts of its plan and a part per view, None where absent.

    `names` are what the page calls the origins of runs.
    """
    views = {origin: _view(study, origin, official) | {"origin": names[origin]} for origin in study["views"]}
    return {
        "name": study["name"],
        "question": study["question"],
        "not_private": _not_private(study["recipes"]),
        "recipes": list(study["recipes"]),
        "plan": study["plan"],
        "privacy": _privacy(study["recipes"], study["plan"]["epsilon"]),
        "finished": finished(study),
        "dirty": any(record["provenance"]["dirty"] for record in study["records"]),
        "here": views.get("here"),
        "reference": views.get("reference"),
        "measured": {name: {"svg": study["figures"].get(name), "table": table} for name, table in study["values"].items()},
    }


def finished(study: dict) -> str:
    """'24 of 24 runs'."""
    return f"{len(study['records'])} of {count(study['total'], 'run', 'runs')}"


def proxies(recipes: dict[str, dict]) -> list[str]:
    """The names of the recipes with the noise of a larger batch, to search learning rates."""
    return [name for name, recipe in recipes.items() if recipe["budget"] == "proxy"]


def not_private(recipes: dict[str, dict]) -> list[str]:
    """The names of the recipes that are not private."""
    return [name for name, recipe in recipes.items() if spec.why_not_private(recipe)]


def _not_private(recipes: dict[str, dict]) -> str | None:
    found = len(not_private(recipes))
    if found in (0, len(recipes)):
        return NOT_PRIVATE if found else None
    return f"{found} of {len(recipes)} recipes {plural(found, 'is', 'are')} {NOT_PRIVATE}"


def _privacy(recipes: dict[str, dict], epsilons: list[str]) -> list[str]:
    """Epsilons, deltas, and what is not private or calibrated, with the recipes that have them where not all do."""

    def sharing(get: Callable[[dict], Any]) -> dict:
        values = sorted({get(recipe) for recipe in recipes.values()})
        return {value: [name for name in sorted(recipes) if get(recipes[name]) == value] for value in values}

    def names(group: list[str]) -> str:
        return f" ({listing(group)})" if len(group) < len(recipes) else ""

    deltas = [f"δ = {significant(delta, 1)}{names(group)}" for delta, group in sharing(itemgetter("delta")).items()]
    budgets = [f"{told}{names(group)}" for told, group in sharing(_budget).items() if told]
    return [f"ε = {', '.join(map(epsilon, epsilons))}", ", ".join(deltas), *budgets]


def _budget(recipe: dict) -> str:
    """What is told of a recipe's privacy; nothing of one that is calibrated and private."""
    parts = spec.mechanism(recipe)
    if not parts["clip"]:
        return f"{NOT_PRIVATE}: nothing is clipped"
    if not parts["noise"]:
        return f"{NOT_PRIVATE}: no noise is added"
    return {"proxy": NOT_PRIVATE, "as-published": "as published, ε computed"}.get(recipe["budget"], "")


def _view(study: dict, origin: str, official: set[str]) -> dict:
    view = study["views"][origin]
    runs, rows = view["runs"], view["rows"]
    suffix = "" if origin == "here" else f"-{origin}"
    return {
        "runs": len(runs),
        "prefix": f"arm-{study['name']}{suffix}-",
        "matrices": matrices(runs),
        "shares": _shares(runs, study["recipes"]),
        "badges": badges(unique(runs["dataset"]), official, rows),
        "mixed": len(unique(runs["source_digest"])) > 1,
        "steers": steers(rows),
        "devices": unique(runs["device"]),
        "commits": unique(runs["commit"].str[:10]),
        "accuracy": study["figures"].get(f"accuracy{suffix}"),
        "differences": study["figures"].get(f"differences{suffix}"),
        "arms": _arms(rows, several_recipes=len(study["recipes"]) > 1, several_archs=len(study["plan"]["arch"]) > 1),
    }


def _shares(runs: pd.DataFrame, recipes: dict[str, dict]) -> list[list[dict]]:
    """What clipping and noise cost, a list a network, variant and epsilon; none in a study that takes no mechanism apart."""
    if not any(recipe["mechanism"] != spec.RECIPE_DEFAULTS["mechanism"] for recipe in recipes.values()):
        return []
    rows = mechanism.shares(runs, {name: spec.mechanism(recipe) for name, recipe in recipes.items()})
    return [list(group) for _, group in groupby(rows, key=itemgetter("arch", "variant", "epsilon"))]


def _arms(rows: list[dict], *, several_recipes: bool, several_archs: bool) -> dict:
    """The table of a study's arms: which columns it has, its rows in groups of epsilon and recipe, and what it shows."""
    groups = [(row["epsilon"], row["recipe"]) for row in rows]
    known = [row for row in rows if pd.notna(row["difference_low"])]
    clear = [row for row in known if row["difference_low"] > 0 or row["difference_high"] < 0]
    return {
        "several_recipes": several_recipes,
        "several_archs": several_archs,
        "spent": any(row["budget"] != "calibrated" or nominal(row) for row in rows),
        "averaged": any(pd.notna(row["without_average_mean"]) for row in rows),
        "rows": [row | {"starts_group": i == 0 or groups[i] != groups[i - 1]} for i, row in enumerate(rows)],
        "proxies": unique(row["recipe"] for row in rows if row["budget"] == "proxy"),
        "taken_apart": unique(row["recipe"] for row in rows if nominal(row) and row["budget"] != "proxy"),
        "intervals": len(known),
        "holds": sum(row.get("difference_p_holm", 1.0) < 1 - LEVEL for row in known),
        "excludes_zero": [_arm(row, several_recipes=several_recipes, several_archs=several_archs) for row in clear],
    }


def _arm(row: dict, *, several_recipes: bool, several_archs: bool) -> str:
    """'scalenorm at ε = 1 (+2.89 points)', with network and recipe where the study has several."""
    network = f" on {row['arch']}" if several_archs else ""
    recipe = f" with {row['recipe']}" if several_recipes else ""
    difference = number(row["difference"], sign=True)
    return f"{row['variant']}{network}{recipe} at ε = {epsilon(row['epsilon'])} ({difference} points)"


def _by_epsilon(summary: pd.DataFrame) -> list[dict]:
    """The rows with rising epsilon, otherwise in the study's order."""
    return summary.sort_values("epsilon", key=lambda column: column.astype(float), kind="stable").to_dict("records")


def _figures(study: str, views: dict, measured: dict, looks: dict, draw: Draw) -> dict[str, Figure]:
    """The figures of a study by name: two of every view, and from the records what runs measured."""
    found = {}
    for origin, view in views.items():
        if (view["runs"]["status"] == "completed").any():
            for name, function in (("accuracy", figures.accuracy), ("differences", figures.differences)):
                name = name if origin == "here" else f"{name}-{origin}"
                found[name] = draw(function, view["runs"], view["summary"], looks, f"{study}-{name}")
    for name, (points, function, _) in measured.items():
        if len(points):
            found[name] = draw(function, points, looks, f"{study}-{name}")
    return found


def _measured(here: list[dict], views: dict) -> dict[str, tuple[pd.DataFrame, Callable, Callable]]:
    """(rows, what draws them, what makes them a table) by name, of what completed runs measured while they trained."""
    done = [record for record in here if record["status"] == "completed"]
    arms = [columns.row(record, (*IDENTITY, "private")) for record in done]
    clipping, mixing = (
        pd.DataFrame([keys | point for keys, record in zip(arms, done, strict=True) for point in of(record)])
        for of in (dynamics.clipping_points, itemgetter("scale_mixing"))
    )
    curves = over_steps.evaluations(done)
    ratios = dynamics.ratios(mixing, views["here"]["summary"]) if len(mixing) else mixing
    return {
        "curves": (curves, figures.curves, values.curves),
        "difference-curves": (over_steps.differences(curves), figures.difference_curves, values.difference_curves),
        "clipping": (clipping, dynamics.clipping, values.clipping),
        "mixing": (mixing, figures.scale_mixing, values.mixing),
        "ratios": (ratios, dynamics.scatter, values.ratios),
    }


def _specification(study: spec.Study) -> str:
    """The resolved recipes, with the defaults of what they leave out, datasets and models of a study as YAML."""
    networks = {f"{run.arch}/{run.variant}": run for run in study.runs}
    content = {
        "recipes": {run.recipe_name: spec.RECIPE_DEFAULTS | run.recipe for run in study.runs},
        "datasets": {run.recipe["dataset"]: run.dataset for run in study.runs},
        "models": {name: run.resolved()["model"] for name, run in networks.items()},
    }
    content = json.loads(json.dumps(content))  # recipes share parts, which YAML would show as aliases
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
