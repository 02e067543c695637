"""What the page prints in its sections on results, one function a section; studies and origins have modules of their own.

`studies` are as `studies.gather` gives them, `made` are records, `names` what the page calls the two origins of runs.
"""

import math

import pandas as pd

from bench.evidence import columns
from bench.evidence.claims import of_study
from bench.plan.claims import Arm, arms_of, contrast_text, range_text
from bench.plan.spec import epsilon_text
from bench.report.formats import NOTHING, significant
from bench.report.studies import finished, not_private
from bench.report.words import STEERS, badges, count, epsilon, mean_sd, plural, seeds, unique

MARKS = {"supported": "✓", "contradicted": "✗", "not resolved": "?", "not tested": "○"}
AUDITED = {"passed": "✓", "caught": "✓", "alarm": "✗", "missed": "✗"}
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


def claims(
    config: dict, plans: dict, table: pd.DataFrame, studies: list[dict], official: set[str], names: dict
) -> list[dict]:
    """Every claim of `config` with its verdicts: the one in the table, and what the same rule gives our reference.

    `plans` are the studies of the configuration, by name.
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
    arms = [arm for _, arm in arms_of(claim, recipe)]
    shown = {o: badges(_labels(row), official, _of_arms(study, o, arms)) for o, row in verdicts.items()}
    outcome = decided["verdict"]
    if "reference" in verdicts:
        outcome += f" here, {verdicts['reference']['verdict']} in our reference"
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
        "badges": shown["here"],
        # those of `here` stand at the claim's head
        "rows": [
            row | {"origin": names[origin], "badges": shown[origin] if origin == "reference" else []}
            for origin, row in verdicts.items()
        ],
    }


def _labels(row: dict) -> list[str]:
    """The datasets of a claim's runs; a table without any has an empty cell."""
    return row["dataset"].split("; ") if isinstance(row["dataset"], str) else []


def _of_arms(study: dict, origin: str, arms: list[Arm]) -> list[dict]:
    """The summary's rows of a view that are of `arms`; none where the view has no runs."""
    rows = study["views"][origin]["rows"] if origin in study["views"] else []
    return [row for row in rows if any(all(row[key] == value for key, value in vars(arm).items()) for arm in arms)]


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

    `beside` is the study whose runs stand in the same table; the values of a group without one are folded under `title`.
    """
    by_name = {study["name"]: study for study in studies}
    groups = {name: group.to_dict("records") for name, group in table.groupby("comparable_with")}
    further = groups.pop("", [])
    made = [_group(name, rows, by_name.get(name), names) for name, rows in groups.items()]
    if further:
        title = f"{count(len(further), 'further value', 'further values')}, not comparable with any study"
        made.append({"beside": None, "title": title, "ours": [], "rows": [_value(row) for row in further]})
    return made


def _group(name: str, rows: list[dict], study: dict | None, names: dict) -> dict:
    shown = study is not None and bool(study["views"])
    why = "has no finished run" if study else "this configuration does not have"
    return {
        "beside": name if shown else None,
        "title": f"{count(len(rows), 'value', 'values')} comparable with study {name}, which {why}",
        "ours": _ours(study, names) if shown else [],
        "rows": [_value(row) for row in rows],
    }


def _ours(study: dict, names: dict) -> list[dict]:
    several = len(study["recipes"]) > 1
    return [
        row
        | {
            "method": f"{row['variant']} with {row['recipe']}" if several else row["variant"],
            "delta": significant(study["recipes"][row["recipe"]]["delta"], 1) if row["epsilon"] != "inf" else "",
            "accuracy": mean_sd(row),
            "note": f"{names[origin]}; {STEERS}" if row["test_split_steers"] else names[origin],
        }
        for origin, view in study["views"].items()
        for row in view["rows"]
    ]


def _value(row: dict) -> dict:
    """A published row, whose values are text and empty where the source does not say."""
    return row | {
        "epsilon": epsilon(f"{float(row['epsilon']):.3g}"),
        "delta": significant(row["delta"], 1) if row["delta"] else "",
        "accuracy": f"{row['accuracy']} ± {row['sd']}" if row["sd"] else row["accuracy"],
        "n": row["n"] or NOTHING,
    }


def speed(table: pd.DataFrame) -> list[dict]:
    """A group per device and case: its name, its rows, with memory relative to the step that is not private, `overhead`.

    `overhead` has the time in percent and the memory in MB that variant scalenorm adds to the baseline, both with the fast
    engine; it is None where one of them was not timed.
    """
    case = [column for column in CASE if column in table]
    groups = []
    for key, rows in table.groupby(case, sort=False, dropna=False) if len(table) else []:
        plain = rows.loc[(rows["engine"] == "not-private") & (rows["variant"] == "baseline"), "peak_mb"]
        rows = rows.assign(relative_mb=rows["peak_mb"] / (plain.iloc[0] if len(plain) else math.nan))
        fast = rows[rows["engine"] == "fast"].drop_duplicates("variant").set_index("variant")
        overhead = None
        if {"baseline", "scalenorm"} <= set(fast.index):
            ours, other = fast.loc["scalenorm"], fast.loc["baseline"]
            overhead = {
                "percent": 100 * (ours["ratio_to_nonprivate"] / other["ratio_to_nonprivate"] - 1),
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


def not_run(studies: list[dict], outside: list[str]) -> dict:
    """A row per unfinished study; `referenced` where our reference has one of them; committed runs `outside` all studies."""
    absent = [study for study in studies if study["missing"]]
    return {
        "rows": [_absent(study) for study in absent],
        "referenced": any("reference" in study["views"] for study in absent),
        "outside": outside,
    }


def _absent(study: dict) -> dict:
    """The reason of a row is 'why; what to do', with the commands in backquotes."""
    why, _, way_out = study["missing"]["reason"].partition("; ")
    return {
        "name": study["name"],
        "question": study["question"],
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
