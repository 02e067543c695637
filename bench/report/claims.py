"""What the page says about claims: those that were tested with their pairs, those that were not in a line each."""

import pandas as pd

from bench.evidence.claims import NOT_TESTED, of_study
from bench.evidence.fragility import removal
from bench.plan.claims import Arm, arms_of, contrast_text, range_text
from bench.plan.spec import epsilon_text
from bench.report.answer import OURS
from bench.report.formats import number
from bench.report.words import badges, count, epsilon

MARKS = {"supported": "✓", "contradicted": "✗", "not resolved": "?", "not tested": "○"}
PAIR = ["seed", "dataset_digest"]


def claims(
    config: dict, plans: dict, table: pd.DataFrame, studies: list[dict], official: set[str], names: dict
) -> list[dict]:
    """Every claim of `config` with its verdicts: the one in the table, and what the same rule gives our reference.

    `plans` are the studies of the configuration, by name. A claim is `tested` where one of its verdicts is one.
    """
    decided = {"here": {row["name"]: row for row in table.to_dict("records")}, "reference": {}}
    by_name = {study["name"]: study for study in studies}
    for study in studies:
        if "reference" in study["views"]:
            rows = of_study(config, plans[study["name"]], study["views"]["reference"]["runs"])
            decided["reference"] |= {row["name"]: row for row in rows}
    return [
        _claim(
            claim,
            name,
            by_name[claim["study"]],
            {o: rows[name] for o, rows in decided.items() if name in rows},
            official,
            names,
        )
        for name, claim in config["claims"].items()
    ]


def _claim(claim: dict, name: str, study: dict, verdicts: dict[str, dict], official: set[str], names: dict) -> dict:
    decided = verdicts["here"]
    recipe = claim.get("recipe", study["plan"]["recipe"][0])
    arms = arms_of(claim, recipe)
    shown = {o: badges(_labels(row), official, _of_arms(study, o, [arm for _, arm in arms])) for o, row in verdicts.items()}
    outcome = decided["verdict"]
    if "reference" in verdicts:
        outcome += f" here, {verdicts['reference']['verdict']} in our reference"
    rows = [
        row
        | {"origin": names[origin], "badges": shown[origin] if origin == "reference" else []}
        | _evidence(row, study, origin, arms, [float(end) for end in claim["range"]])
        for origin, row in verdicts.items()
    ]
    return claim | {
        "name": name,
        "contrast": contrast_text(claim),
        "recipe": recipe,
        "epsilon": epsilon(epsilon_text(claim["epsilon"])),
        "range": range_text(*map(float, claim["range"])),
        "found_by": claim.get("found_by"),
        "private": claim.get("private", True),
        "test": decided["test"],
        "pairs": decided["pairs"],
        "verdict": decided["verdict"],
        "mark": MARKS[decided["verdict"]],
        "outcome": outcome,
        "tested": any(row["verdict"] != NOT_TESTED for row in verdicts.values()),
        "published": OURS not in claim["source"],
        "badges": shown["here"],  # those of `here` stand at the claim's head
        "rows": rows,
    }


def _labels(row: dict) -> list[str]:
    """The datasets of a claim's runs; a table without any has an empty cell."""
    return row["dataset"].split("; ") if isinstance(row["dataset"], str) else []


def _of_arms(study: dict, origin: str, arms: list[Arm]) -> list[dict]:
    """The summary's rows of a view that are of `arms`; none where the view has no runs."""
    rows = study["views"][origin]["rows"] if origin in study["views"] else []
    return [row for row in rows if any(all(row[key] == value for key, value in vars(arm).items()) for arm in arms)]


def _evidence(row: dict, study: dict, origin: str, arms: list, ends: list[float]) -> dict:
    """The pairs behind a verdict: `arms` in words, `table` rows of a seed, `fragile` a sentence, the `first` run's start."""
    runs = study["views"].get(origin, {}).get("runs")
    if runs is None:
        return {"arms": [], "table": [], "fragile": "", "first": None}
    table, starts = pairs(runs, arms), {r["run"]["id"]: r["provenance"] for r in study["records"]}
    made = [starts[cell["run"]] for line in table for cell in line["cells"] if origin == "here" and cell["run"] in starts]
    return {
        "arms": [_arm(sign, arm) for sign, arm in arms],
        "table": table,
        "fragile": fragile([line["difference"] for line in table], row["pairs"], ends),
        "first": min(made, key=lambda provenance: provenance["started"], default=None),
    }


def pairs(runs: pd.DataFrame, arms: list[tuple[int, Arm]]) -> list[dict]:
    """A row a seed that all `arms` have finished: `seed`, `cells` of accuracy and run id in their order, `difference`."""
    done = runs[runs["status"] == "completed"]
    sides = [done[(done[list(vars(arm))] == list(vars(arm).values())).all(axis=1)].set_index(PAIR) for _, arm in arms]
    common = [key for key in sides[0].index if all(key in side.index for side in sides[1:])]
    rows = []
    for key in sorted(common):
        cells = [
            {"accuracy": float(side.loc[key, "accuracy"]), "run": f"{'/'.join(_path(arm))}/seed{key[0]}"}
            for side, (_, arm) in zip(sides, arms, strict=True)
        ]
        difference = sum(sign * cell["accuracy"] for (sign, _), cell in zip(arms, cells, strict=True))
        rows.append({"seed": key[0], "cells": cells, "difference": difference})
    return rows


def _path(arm: Arm) -> tuple[str, ...]:
    return arm.recipe, arm.arch, arm.variant, f"eps{arm.epsilon}"


def _arm(sign: int, arm: Arm) -> str:
    return f"{'plus' if sign > 0 else 'minus'} {'/'.join(_path(arm))}"


def fragile(differences: list[float], planned: int, ends: list[float]) -> str:
    """'1 of 12 pairs, taken away, would change what the interval says.'; nothing before all planned pairs have finished."""
    if len(differences) < planned or planned < 3:
        return ""
    smallest, exact = removal(differences, *ends)
    if smallest is None:
        return "No removal of pairs changes what the interval says."
    told = "" if exact else "at most "
    lead = f"Taking away the right {told}{smallest} of its {count(planned, 'pair', 'pairs')} would change"
    return f"{lead} what the interval says ({number(100 * smallest / planned, 0)} %)."
