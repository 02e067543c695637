"""What the page prints in its sections on results, one function a section; studies and origins have modules of their own.

`studies` are as `studies.gather` gives them, `made` are records, `names` what the page calls the two origins of runs.
"""

import math

import pandas as pd

from bench.evidence import columns, effects
from bench.evidence.summary import ARM
from bench.report.formats import NOTHING, significant
from bench.report.studies import finished, not_private
from bench.report.words import STEERS, count, epsilon, mean_sd, plural, seeds, unique

AUDITED = {"passed": "✓", "caught": "✓", "alarm": "✗", "missed": "✗"}
SPREAD = ("ratio_low", "ratio_high")  # of the rounds of the speed table; older ones do not have it
BOUNDS = ("mu_gdp", "steinke", "clopper_pearson")  # of the audit's table, the judge's first
CASE = ("device", "threads", "arch", "width", "physical_batch", "views", "precision")  # columns of the speed table


def overview(studies: list[dict], made: list[dict]) -> dict:
    """The numbers of the first paragraphs; `runs` is None where no run has finished."""
    return {
        "studies": len(studies),
        "runs": _runs(studies, made) if made else None,
        "absent": [study["name"] for study in studies if study["missing"]],
    }


def _runs(studies: list[dict], made: list[dict]) -> dict:
    return {
        "count": len(made),
        "shares": [_share(study) for study in studies if study["records"]],
        "data": unique(record["data"]["label"] for record in made),
        "machines": unique(record["machine"]["device_name"] for record in made),
        "first": _minute(min(record["provenance"]["started"] for record in made)),
        "last": _minute(max(record["provenance"]["finished"] for record in made)),
        "seconds": sum(record["cost"]["seconds"] for record in made),
        "diverged": len(_diverged(made)),
    }


def _share(study: dict) -> str:
    """'quick (128 of 128 runs, seeds 0 to 7)'; the seeds are those of the finished runs."""
    own = sorted({record["run"]["seed"] for record in study["records"]})
    return f"{study['name']} ({finished(study)}, {plural(len(own), 'seed', 'seeds')} {seeds(own)})"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _diverged(made: list[dict]) -> list[dict]:
    return [record for record in made if record["status"] == "diverged"]


def privacy(made: list[dict]) -> dict:
    """The ledger, a row per recipe and epsilon with what its longest run spent, and how batches were sampled."""
    rows: dict[tuple, dict] = {}
    for record in made:
        row = columns.row(record) | {key: record["privacy"][key] for key in ("sampling", "adjacency")}
        row["batch_size"] = record["run"]["recipe"]["batch_size"]
        key = row["recipe"], float(row["epsilon"])
        rows[key] = max(row, rows.get(key, row), key=lambda entry: entry["steps"])
    ledger = [rows[key] for key in sorted(rows)]
    return {
        "rows": [_spent(row) for row in ledger],
        "sampling": unique(row["sampling"] for row in ledger),
        "adjacency": unique(row["adjacency"] for row in ledger),
        "nonfinite": sum(record["privacy"].get("nonfinite_samples", 0) for record in made),
    }


def _spent(row: dict) -> dict:
    """A row of the ledger, with what a run without privacy does not have in words."""
    private = row["epsilon"] != "inf"
    return row | {
        "budget_name": row["budget"].replace("-", " "),
        "noise_multiplier": significant(row["noise_multiplier"], 4) if row["noise_multiplier"] else "0",
        "batch_size": f"{row['batch_size']:.6g}",
        "clip_norm": f"{row['clip_norm']:g}" if math.isfinite(row["clip_norm"]) else "none",
        "delta": significant(row["delta"], 1) if private else NOTHING,
    }


def published(table: pd.DataFrame, studies: list[dict], names: dict) -> list[dict]:
    """The published values in groups, those comparable with a study by its name, ours in front of them, then the others.

    `beside` is the study whose runs stand in the same table, None where there is none; `title` heads the group.
    """
    by_name = {study["name"]: study for study in studies}
    changes = {effect["row"]["id"]: effect for effect in effects.published(table)}
    groups = {name: group.to_dict("records") for name, group in table.groupby("comparable_with")}
    further = groups.pop("", [])
    made = [_group(name, rows, by_name.get(name), names, changes) for name, rows in groups.items()]
    if further:
        title = f"{count(len(further), 'further value', 'further values')}, not comparable with any study"
        rows = [_value(row, changes) for row in further]
        made.append({"beside": None, "name": "comparable with no study", "title": title, "ours": [], "rows": rows})
    return made


def chosen(table: pd.DataFrame) -> dict:
    """How many published values there are in `total`, are the `best` epoch on the test split, and leave it `unknown`."""
    scores = table["score"]
    return {"total": len(scores), "best": int((scores == "best-epoch").sum()), "unknown": int((scores == "not stated").sum())}


def _group(name: str, rows: list[dict], study: dict | None, names: dict, changes: dict) -> dict:
    shown = study is not None and bool(study["views"])
    why = "has no finished run" if study else "this configuration does not have"
    return {
        "beside": name if shown else None,
        "name": f"comparable with study {name}",
        "title": f"{count(len(rows), 'value', 'values')} comparable with study {name}, which {why}",
        "ours": _ours(study, names) if shown else [],
        "rows": [_value(row, changes) for row in rows],
    }


def _ours(study: dict, names: dict) -> list[dict]:
    several = len(study["recipes"]) > 1
    return [
        row
        | {
            "method": f"{row['variant']} with {row['recipe']}" if several else row["variant"],
            "delta": significant(study["recipes"][row["recipe"]]["delta"], 1) if row["epsilon"] != "inf" else "",
            "accuracy": mean_sd(row),
            "mu": _mu(view["runs"], row),
            "note": f"{names[origin]}; {STEERS}" if row["test_split_steers"] else names[origin],
        }
        for origin, view in study["views"].items()
        for row in view["rows"]
    ]


def _mu(runs: pd.DataFrame, arm: dict) -> float:
    """The largest mu among an arm's runs; NaN where no record has it, or the runs keep no epsilon."""
    return runs.loc[(runs[ARM] == [arm[key] for key in ARM]).all(axis=1) & runs["private"], "mu"].max()


def _value(row: dict, changes: dict) -> dict:
    """A published row, whose values are text and empty where the source does not say; `change` is that to its baseline."""
    return row | {
        "epsilon": epsilon(f"{float(row['epsilon']):.3g}"),
        "delta": significant(row["delta"], 1) if row["delta"] else "",
        "accuracy": f"{row['accuracy']} ± {row['sd']}" if row["sd"] else row["accuracy"],
        "n": row["n"] or NOTHING,
        "mu": float(row["mu"]) if row["mu"] else math.nan,
        "change": changes.get(row["id"]),
    }


def privacy_axis(table: pd.DataFrame, studies: list[dict]) -> list[dict]:
    """What `dynamics.privacy_axis` draws: published values that have a mu, and ours; a place of ours once."""
    rows = [
        {"mu": float(row["mu"]), "accuracy": float(row["accuracy"]), "ours": False, "dataset": row["dataset"]}
        | {"scalenorm": "ScaleNorm" in row["method"], "name": f"{row['method']}, {row['model']} ({row['source_key']})"}
        for row in table.to_dict("records")
        if row["mu"]
    ]
    ours: dict[tuple, dict] = {}
    for study in studies:
        view = study["views"].get("here")
        for row in view["rows"] if view else []:
            point = {"mu": _mu(view["runs"], row), "accuracy": row["mean"], "ours": True, "dataset": row["dataset"]}
            if not math.isnan(point["mu"] + point["accuracy"]):
                more = {"scalenorm": row["variant"] == "scalenorm", "name": f"{row['variant']}, {row['arch']} (this suite)"}
                ours[tuple(row[key] for key in ARM)] = point | more
    return rows + list(ours.values())


def speed(table: pd.DataFrame) -> list[dict]:
    """A group per device and case: its name, its rows, with memory relative to the step that is not private, `overhead`.

    `overhead` has the time in percent and the memory in MB that variant scalenorm adds to the baseline, both with the fast
    engine; it is None where one of them was not timed. The time is NaN where the spreads of both overlap, or are not `known`.
    """
    case = [column for column in CASE if column in table]
    table = table.reindex(columns=[*table.columns, *(column for column in SPREAD if column not in table)])
    groups = []
    for key, rows in table.groupby(case, sort=False, dropna=False) if len(table) else []:
        plain = rows.loc[(rows["engine"] == "not-private") & (rows["variant"] == "baseline"), "peak_mb"]
        rows = rows.assign(relative_mb=rows["peak_mb"] / (plain.iloc[0] if len(plain) else math.nan))
        fast = rows[rows["engine"] == "fast"].drop_duplicates("variant").set_index("variant")
        overhead = None
        if {"baseline", "scalenorm"} <= set(fast.index):
            ours, other = fast.loc["scalenorm"], fast.loc["baseline"]
            apart = ours["ratio_low"] > other["ratio_high"] or other["ratio_low"] > ours["ratio_high"]
            overhead = {
                "percent": 100 * (ours["ratio_to_nonprivate"] / other["ratio_to_nonprivate"] - 1) if apart else math.nan,
                "known": bool(fast["ratio_low"].notna().all()),
                "mb": ours["peak_mb"] - other["peak_mb"],
            }
        name = _case(dict(zip(case, key, strict=True)))
        groups.append({"case": name, "rows": rows.to_dict("records"), "overhead": overhead})
    return groups


def _case(case: dict) -> str:
    """'resnet9 (width 64), 64 images of 16 views, float32; Test GPU, 2 threads'; older tables say less."""
    width = f" (width {case['width']})" if "width" in case else ""
    views = f" of {case['views']} views" if case.get("views", 1) != 1 else ""
    precision = f", {case['precision']}" if "precision" in case else ""
    threads = f", {count(case['threads'], 'thread', 'threads')}" if "threads" in case else ""
    images = count(case["physical_batch"], "image", "images")
    return f"{case['arch']}{width}, {images}{views}{precision}; {case['device']}{threads}"


def audit(table: pd.DataFrame) -> list[dict]:
    """The rows of the audit's table, with the number of alarms in words; none where there is no table."""
    return [
        row
        | {"of": f"{row['alarms']} of {row['seeds']}", "honest": row["case"] == "honest"}
        | {"mark": AUDITED[row["verdict"]], "bounds": [row[f"epsilon_{name}"] for name in BOUNDS]}
        for row in table.to_dict("records")
    ]


def killed(table: pd.DataFrame) -> list[dict]:
    """A row a kind of fault of tests/kill_points.py, and one of all of them; none where there is no table."""
    if table.empty:
        return []
    kinds = [*table.groupby("kind", sort=False), ("all of them", table)]
    return [
        {
            "kind": kind,
            "points": len(points),
            "equal": int(points["equal"].sum()),
            "finished": int(points["finished_before"].sum()),
            "states": int((points["states_left"] > 0).sum()),
        }
        for kind, points in kinds
    ]


def not_run(studies: list[dict], outside: list[str]) -> dict:
    """Unfinished studies by the reason why, in words without the study's name; committed runs `outside` all studies."""
    reasons: dict[tuple, dict] = {}
    for study in studies:
        if study["missing"]:
            row = _absent(study)
            commands = tuple(command.replace(study["name"], "STUDY") for command in row["commands"])
            new = {"why": row["why"], "commands": commands, "rows": []}
            reasons.setdefault((row["why"], commands), new)["rows"].append(row)
    return {"reasons": list(reasons.values()), "outside": outside}


def _absent(study: dict) -> dict:
    """The reason of a row is 'why; what to do', with the commands in backquotes."""
    why, _, way_out = study["missing"]["reason"].partition("; ")
    return {
        "name": study["name"],
        "not_private": bool(not_private(study["recipes"])),
        "missing": f"{study['missing']['missing']} of {study['missing']['runs']}",
        "why": why,
        "commands": way_out.split("`")[1::2],
        "reference": len(study["views"]["reference"]["runs"]) if "reference" in study["views"] else None,
    }


def failed(made: list[dict]) -> dict:
    """The diverged runs, and the number of all."""
    rows = [
        {
            "id": record["run"]["id"],
            "steps": f"{record['privacy']['steps']} of {record['run']['recipe']['steps']}",
            "reason": record["result"]["reason"],
        }
        for record in _diverged(made)
    ]
    return {"rows": rows, "total": len(made)}
