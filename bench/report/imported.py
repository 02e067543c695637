"""What the page says about records of others, beside ours: a table a label. Nothing of them enters any other number."""

import pandas as pd

from bench.evidence import columns, compare, tables
from bench.evidence.summary import ARM
from bench.report import reference
from bench.report.words import count, mean_sd, unique

AGREE, UNTESTED, ABSENT = "agrees", "too few runs to test", "not run here"


def section(imported: dict[str, list[dict]], studies: dict, ours: pd.DataFrame, own: dict[str, dict]) -> list[dict]:
    """A part a label: its facts, its arms beside ours of the table `ours`, and what differs of several arms together.

    `own` are our records by id. Records that no run of `studies` matches any more are counted and left out.
    """
    return [_part(label, found, studies, ours, own) for label, found in imported.items()]


def _part(label: str, found: list[dict], studies: dict, ours: pd.DataFrame, own: dict[str, dict]) -> dict:
    by_id = {record["run"]["id"]: record for record in found}
    outside = set(reference.plan(studies, by_id)[1])
    made = [record for name, record in by_id.items() if name not in outside]
    theirs = tables.reread(columns.frame(made))
    compared = compare.beside(ours, theirs) if len(ours) else None
    rows = [_row(dict(zip(ARM, arm, strict=True)), runs, ours, compared) for arm, runs in theirs.groupby(ARM, sort=False)]
    names = {_name(row) for row in rows}
    return {
        "label": label,
        "runs": count(len(made), "run", "runs"),
        "devices": unique(theirs["device"]),
        "commits": unique(theirs["commit"].str[:10]),
        "dirty": sum(record["provenance"]["dirty"] for record in made),
        "same": sum(own.get(record["run"]["id"]) == record for record in made),
        "outside": len(outside),
        "rows": rows,
        "together": [row for row in (compared or {"different": []})["different"] if row[0] not in names],
    }


def _row(arm: dict, theirs: pd.DataFrame, ours: pd.DataFrame, compared: dict | None) -> dict:
    here = ours[(ours[ARM] == list(arm.values())).all(axis=1)] if len(ours) else ours
    one, two = _accuracy(here), _accuracy(theirs)
    row = arm | {"ours": mean_sd(one), "theirs": mean_sd(two), "n": f"{two['n']} beside {one['n']}"}
    return row | {"difference": two["mean"] - one["mean"], "verdict": _verdict(_name(arm), len(here), compared)}


def _accuracy(runs: pd.DataFrame) -> dict:
    done = runs.loc[runs["status"] == "completed", "accuracy"].astype(float) if len(runs) else pd.Series(dtype=float)
    return {"n": len(done), "mean": done.mean(), "sd": done.std(ddof=1)}


def _verdict(name: str, here: int, compared: dict | None) -> str:
    if not here or compared is None:
        return ABSENT
    different = [what for arm, what, *_ in compared["different"] if arm == name]
    if different:
        return f"differs: {', '.join(different)}"
    return UNTESTED if name in compared["untested"] else AGREE


def _name(row: dict) -> str:
    return compare.name_of([row[key] for key in ARM])
