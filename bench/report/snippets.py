"""Tables of the reference in Markdown documents, between marks, so that no number in prose is typed by hand.

<!-- reference: summary STUDY -->   a row an arm: seeds, mean, interval, paired difference
<!-- reference: answer -->          what the report's first screen says
<!-- reference: studies -->         a row a study: what it trains, where it runs, how many of its runs are committed
<!-- reference: verdicts -->        a row a claim
<!-- reference: speed -->           the speed table
<!-- reference: search NAME -->     a row a run of the search that chose a recipe's values, best first
<!-- reference: pairing STUDY -->   what pairing by seed buys in a study, beside the same arms of results version 1
<!-- reference: mechanism STUDY --> what clipping and noise cost, a row a variant and part
<!-- reference: rates STUDY -->     a row a learning rate, the one of the lowest training loss marked
<!-- reference: curves STUDY -->    the paired difference to the baseline over steps, a row an arm
<!-- end -->                        closes each of them; what stands between is made anew
"""

import re
from collections.abc import Iterable

import pandas as pd

from bench import BenchError
from bench.evidence import effects, mechanism, over_steps, stats
from bench.evidence import summary as arms
from bench.plan.claims import range_text
from bench.plan.config import did_you_mean
from bench.plan.spec import Study
from bench.plan.spec import mechanism as parts_of
from bench.report import answer, values
from bench.report.formats import NOTHING, interval, number, significant
from bench.report.words import epsilon, nominal

MARK = re.compile(r"<!-- (?:reference: (?P<name>[^\n]*?)|(?P<end>end)) -->")
NONE = "No reference results yet."


def fill(text: str, tables: dict[str, pd.DataFrame], studies: dict[str, Study], place: str) -> str:
    """`text` with every snippet made anew from `studies` and `tables`: those that `reference.derived` gives.

    BenchError names `place`, the line and the mark that is unknown, or is not followed by its end.
    """
    parts, done, open_ = [], 0, None
    for mark in MARK.finditer(text):
        where = f"{place}:{text.count(chr(10), 0, mark.start()) + 1}: {mark[0]}"
        if (mark["end"] is None) == (open_ is not None):
            raise BenchError(f"{where}: {'the mark before it has no end' if open_ else 'no mark stands before it'}")
        if mark["end"]:
            parts += ["\n\n", _snippet(*open_, tables, studies), "\n\n"]
            done, open_ = mark.start(), None
        else:
            parts.append(text[done : mark.end()])
            open_ = mark["name"], where
    if open_:
        raise BenchError(f"{open_[1]}: no <!-- end --> follows")
    return "".join(parts) + text[done:]


def _snippet(name: str, where: str, tables: dict, studies: dict[str, Study]) -> str:
    kind, _, study = name.partition(" ")
    if kind in ("summary", "pairing", "mechanism", "rates", "curves") and study not in studies:
        raise BenchError(f"{where}: unknown study {study!r}{did_you_mean(study, studies)}")
    if kind == "summary":
        return _summary(tables["summary"][tables["summary"]["study"] == study])
    if kind == "search":
        if study not in tables["searches"]:
            raise BenchError(f"{where}: unknown search {study!r}{did_you_mean(study, tables['searches'])}")
        return _search(tables["searches"][study])
    if kind == "pairing":
        before = arms.of_study(tables["version 1"], study, {}) if len(tables["version 1"]) else pd.DataFrame()
        return _pairing({"1": before, "2": tables["summary"][tables["summary"]["study"] == study]})
    if kind in ("mechanism", "rates"):
        planned = studies[study].runs
        runs = tables["runs"].merge(pd.DataFrame([run.identity for run in planned])) if len(tables["runs"]) else None
        if runs is None or runs.empty:
            return NONE
        recipes = {run.recipe_name: run.recipe for run in planned}
        return _mechanism(runs, recipes) if kind == "mechanism" else _rates(runs, recipes)
    if kind == "curves":
        planned = pd.DataFrame([run.identity for run in studies[study].runs])
        points = tables["evaluations"]
        return _curves(over_steps.differences(planned.merge(points) if len(points) else points))
    if name == "studies":
        return _studies(studies.values(), tables["not_run"])
    if name == "answer":
        said = answer.sentences(effects.ours(tables["summary"], studies), tables["claims"].to_dict("records"))
        return "\n".join(f"- {sentence}" for sentence in said)
    if name == "verdicts":
        return _verdicts(tables["claims"]) if len(tables["runs"]) else NONE
    if name == "speed":
        return _speed(tables["speed"])
    raise BenchError(
        f"{where}: expected summary, pairing, mechanism, rates or curves STUDY, answer, "
        "studies, verdicts, speed or search NAME"
    )


def _studies(studies: Iterable[Study], not_run: pd.DataFrame) -> str:
    missing = dict(zip(not_run["study"], not_run["missing"], strict=True))
    where = {"run": "anywhere", "on-request": "anywhere, on request", "skip": "GPU"}
    lines = []
    for study in studies:
        archs = list(dict.fromkeys(run.arch for run in study.runs))
        datasets = dict.fromkeys(run.dataset["name"] for run in study.runs)
        count = len(study.runs)
        lines.append(
            [
                study.name,
                study.question,
                f"{', '.join(datasets)}; {', '.join(archs[:2])}{f' and {len(archs) - 2} more' if len(archs) > 2 else ''}",
                str(count),
                str(count - missing.get(study.name, 0)),
                where[study.without_gpu],
            ]
        )
    return _table(["study", "question", "data; networks", ">runs", ">committed", "where"], lines)


def _summary(rows: pd.DataFrame) -> str:
    if rows.empty:
        return NONE
    rows = rows.sort_values("epsilon", key=lambda column: column.astype(float), kind="stable")
    several = [column for column in ("recipe", "arch") if len(rows[column].unique()) > 1]
    head = [*several, "variant", ">ε", ">n", ">accuracy, %", ">95 % interval"]
    lines = []
    for row in rows.to_dict("records"):
        diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
        lines.append(
            [
                *(row[column] for column in several),
                f"{row['variant']} (**not private**)" if nominal(row) else row["variant"],
                epsilon(row["epsilon"]),
                f"{row['n']}{diverged}",
                number(row["mean"]),
                interval(row),
                number(row["difference"], sign=True),
                interval(row, "difference_", sign=True),
            ]
        )
    return _table([*head, ">paired difference, points", ">95 % interval"], lines) + "\n\n" + _made_on(rows)


def _made_on(rows: pd.DataFrame) -> str:
    """Data and device, as every sentence about a result must name them."""
    steers = " The test split steers the schedule." if rows["test_split_steers"].any() else ""
    labels = {column: "; ".join(dict.fromkeys("; ".join(rows[column]).split("; "))) for column in ("dataset", "device")}
    marked = any(map(nominal, rows.to_dict("records")))
    told = " Runs marked as not private have a nominal ε only." if marked else ""
    return f"Data: {labels['dataset']}. Device: {labels['device']}. n: seeds; differences to the baseline.{steers}{told}"


def _verdicts(claims: pd.DataFrame) -> str:
    lines = [
        [
            row["statement"],
            row["verdict"],
            f"{row['difference_n']} of {row['pairs']}",
            number(row["difference"], sign=True),
            interval(row, "difference_", sign=True),
            range_text(row["range_low"], row["range_high"]),
            row["dataset"] or NOTHING,
        ]
        for row in claims.to_dict("records")
    ]
    return _table(["claim", "verdict", ">pairs", ">difference, points", ">95 % interval", "claimed", "data"], lines)


def _speed(rows: pd.DataFrame) -> str:
    if rows.empty:
        return NONE
    numeric = [pd.api.types.is_numeric_dtype(rows[name]) for name in rows]
    lines = [[significant(v, 4) if isinstance(v, float) else str(v) for v in row.values()] for row in rows.to_dict("records")]
    names = [f"{'>' if right else ''}{name.replace('_', ' ')}" for name, right in zip(rows, numeric, strict=True)]
    return _table(names, lines)


def _search(found: list[dict]) -> str:
    """Records of one network and variant that differ in batch size, steps, learning rate or clip norm."""
    lines = []
    for record in sorted(found, key=lambda record: -record["result"]["accuracy"]):
        recipe = record["run"]["recipe"]
        values = [
            recipe["batch_size"],
            recipe["steps"],
            recipe["optimizer"]["lr"],
            recipe["clip_norm"],
            record["run"]["seed"],
        ]
        lines.append([*(f"{value:g}" for value in values), number(record["result"]["accuracy"])])
    head = [">batch size", ">steps", ">learning rate", ">clip norm", ">seed", ">accuracy, %"]
    return _table(head, lines) + f"\n\nData: {found[0]['data']['label']}. Device: {found[0]['machine']['device_name']}."


def _mechanism(runs: pd.DataFrame, recipes: dict[str, dict]) -> str:
    """What clipping and noise cost of the accuracy, by variant, and how much of it the layer mends."""
    rows = mechanism.shares(runs, {name: parts_of(recipe) for name, recipe in recipes.items()})
    lines = [
        [row["variant"], row["part"], str(row["pairs"]), number(row["points"], sign=True), interval(row, sign=True)]
        for row in rows
    ]
    return _table(["variant", "lost to", ">seeds", ">points", ">95 % interval"], lines) if rows else NONE


def _curves(points: pd.DataFrame) -> str:
    if points.empty:
        return NONE
    table = values.difference_curves(points)
    head = [f"{'>' if side == 'n' else ''}{name[0].lower()}{name[1:]}" for name, side in table["columns"]]
    told = "Differences to the baseline in points, with 95 % intervals, each for its own step."
    return f"{_table(head, table['rows'])}\n\n{told}"


def _rates(runs: pd.DataFrame, recipes: dict[str, dict]) -> str:
    """Learning rates of every variant and epsilon by the training loss at the end; the lowest one is marked."""
    rates = {name: recipe["optimizer"]["lr"] for name, recipe in recipes.items()}
    runs = runs[runs["status"] == "completed"].assign(rate=lambda rows: rows["recipe"].map(rates))
    lines = []
    for (variant, eps), group in runs.groupby(["variant", "epsilon"], sort=False):
        by_rate = group.groupby("rate")[["train_loss", "accuracy"]].agg(["mean", "std", "count"])
        best = by_rate["train_loss", "mean"].idxmin()
        for rate, row in by_rate.iterrows():
            mark = "lowest" if rate == best else ""
            loss, accuracy = row["train_loss"], row["accuracy"]
            lines.append(
                [
                    variant,
                    epsilon(eps),
                    f"{rate:g}",
                    f"{loss['count']:.0f}",
                    number(loss["mean"], 4),
                    number(loss["std"], 4),
                    mark,
                    number(accuracy["mean"]),
                ]
            )
    head = ["variant", ">ε", ">learning rate", ">seeds", ">training loss", ">sd", "", ">accuracy, % (chooses nothing)"]
    return _table(head, lines)


def _pairing(by_version: dict[str, pd.DataFrame]) -> str:
    """Rows by variant, epsilon and results version: correlation of paired accuracies and what unpaired seeds would cost."""
    rows = [row | {"version": version} for version, table in by_version.items() for row in table.to_dict("records")]
    rows = sorted((row for row in rows if row["against"]), key=lambda row: (row["variant"], float(row["epsilon"])))
    if not rows:
        return NONE
    lines = []
    for row in rows:
        low, high = stats.correlation_interval(row["correlation"], int(row["difference_n"]))
        lines.append(
            [
                row["variant"],
                epsilon(row["epsilon"]),
                row["version"],
                f"{row['difference_n']:.0f}",
                number(row["correlation"], sign=True),
                interval({"low": low, "high": high}, sign=True),
                number(row["pairing_gain"]),
                number(row["difference"], sign=True),
                interval(row, "difference_", sign=True),
            ]
        )
    head = [
        "variant",
        ">ε",
        ">results version",
        ">pairs",
        ">correlation",
        ">95 % interval",
        ">variance, unpaired over paired",
    ]
    return _table([*head, ">difference, points", ">95 % interval"], lines)


def _table(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table; a heading that begins with '>' aligns its column right."""
    rule = ["---:" if name.startswith(">") else "---" for name in head]
    rows = [[name.removeprefix(">") for name in head], rule, *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
