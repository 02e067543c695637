"""The report: one self-contained HTML page from the tables, the records and the references; no clock, no network."""

import base64
import io
import json
import math
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from bench import ROOT, BenchError
from bench.evidence import claims, columns, records, stats, tables
from bench.plan import spec
from bench.report import figures, formats

RESULTS = Path("results")
REFERENCE = ROOT / "results" / "reference"
TEMPLATES = ROOT / "workflow" / "report"
IDENTITY = ["recipe", "arch", "variant", "epsilon", "seed"]
MACHINE = ("device_name", "cpu", "platform", "python", "torch", "cuda", "opacus", "dp-accounting", "numpy", "threads",
           "engine", "physical_batch")  # fmt: skip
# what a run was made of, for the provenance table
ORIGIN = ("source_digest", "commit", "dirty", "device_name", "engine", "python", "torch", "cuda", "opacus", "digest")
CASE = ("device", "threads", "arch", "width", "physical_batch", "views", "precision")  # columns of the speed table
SPLIT = ("label", "train_size", "test_size", "classes", "digest")
SUMMARISE = "run `python -m bench summarise` first"
MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


def write(config: dict, studies: dict[str, spec.Study], out: Path) -> None:
    """Writes the page to `out` and its figures to results/figures, from the tables that `summarise` wrote.

    Raises BenchError where the tables are missing, or do not say what the records say.
    """
    read = {name: tables.read(RESULTS / f"{name}.csv", SUMMARISE) for name in tables.NAMES}
    found, newer = _records(studies, read["runs"])
    page, pages = _page(
        config,
        studies,
        found,
        read,
        reference=_optional(REFERENCE / "runs.csv"),
        published=_published(REFERENCE),
        speed=_optional(RESULTS / "speed.csv"),
        newer=newer,
        downloads={f"{name}.csv": _data_uri((RESULTS / f"{name}.csv").read_text()) for name in tables.NAMES},
        committed=False,
        outside=[],
    )
    drawn = {f"{study['name']}-{name}.svg": svg for study in pages for name, svg in study["figures"].items()}
    for study in pages:
        for old in (RESULTS / "figures").glob(f"{study['name']}-*.svg"):
            if old.name not in drawn:
                old.unlink()
    for name, svg in drawn.items():
        records.write_text(str(svg), RESULTS / "figures" / name)
    records.write_text(page, out)


def reference_page(config: dict, studies: dict[str, spec.Study], found: dict, made: dict, folder: Path, outside: list) -> str:
    """The same page about the committed records `found` by run id and the tables `made` of them; it has no other origin.

    `folder` has published.csv and may have speed.csv; `outside` are the ids of committed runs that no study plans.
    """
    return _page(
        config,
        studies,
        found,
        # as a reader of the files sees them: the same page from the tables in memory and from those on disk
        {name: _reread(table) for name, table in made.items()},
        reference=pd.DataFrame(),
        published=_published(folder),
        speed=_optional(folder / "speed.csv"),
        newer=0,
        downloads={f"{name}.csv": _data_uri(tables.text(table)) for name, table in made.items()},
        committed=True,
        outside=outside,
    )[0]


def _page(config, studies, found: dict, read: dict, *, reference, published, speed, **more) -> tuple[str, list[dict]]:
    """(HTML, what it says about each study)"""
    looks = figures.styles([run.variant for run in study.runs] for study in studies.values())
    pages = [_study(study, found, read, reference, looks) for study in studies.values()]
    made = list(found.values())
    origins, origin_of = _origins(made)
    page = _template().render(
        studies=pages,
        claims=[_claim(name, claim, read["claims"], pages) for name, claim in config["claims"].items()],
        records=made,
        official=_official(published, made),
        ledger=_ledger(made),
        published={name: _rows(group) for name, group in published.groupby("comparable_with")},
        speed=_speed(speed),
        machines=_distinct([record["machine"] for record in made], MACHINE),
        splits=_distinct([record["data"] for record in made], SPLIT),
        settings={r["run"]["id"].split("/")[0]: spec.RECIPE_DEFAULTS | r["run"]["recipe"] for r in made},
        origins_of_runs=origins,
        origin_of=origin_of,
        provenance={r["run"]["id"]: {key: r[key] for key in ("provenance", "machine", "data")} for r in made},
        **more,
    )
    return page, pages


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (formats.number, formats.interval, formats.significant, formats.duration, formats.listing)
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template("template.html")


def _optional(path: Path) -> pd.DataFrame:
    return tables.read(path, SUMMARISE) if path.exists() else pd.DataFrame()


def _reread(table: pd.DataFrame) -> pd.DataFrame:
    return tables.read(io.StringIO(tables.text(table)), SUMMARISE)


def _published(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "published.csv", dtype=str, keep_default_na=False)


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")


def _records(studies: dict[str, spec.Study], runs: pd.DataFrame) -> tuple[dict[str, dict], int]:
    """The records that the table `runs` was made from, by run id, and the number of those that came later."""
    unique = {run.id: run for study in studies.values() for run in study.runs}
    found = {record["run"]["id"]: record for record in records.collect(list(unique.values()))[0]}
    listed = {"{recipe}/{arch}/{variant}/eps{epsilon}/seed{seed}".format(**row): row for row in _rows(runs)}
    for name, row in listed.items():
        accuracy = found[name]["result"]["accuracy"] if name in found else None
        if name not in found or (accuracy is not None and not math.isclose(accuracy, row["accuracy"], rel_tol=1e-9)):
            raise BenchError(f"{RESULTS}/runs.csv: {name} is not what its record says; {SUMMARISE}")
    return {name: record for name, record in found.items() if name in listed}, len(found) - len(listed)


def _study(study: spec.Study, found: dict, read: dict, reference: pd.DataFrame, looks: dict) -> dict:
    """What the page says about one study: its plan, what was found here and, where there is one, our reference."""
    here = [found[run.id] for run in study.runs if run.id in found]
    summary = read["summary"]
    views = {"here": {"runs": columns.frame(here), "summary": summary[summary["study"] == study.name]}}
    if len(reference):
        planned = pd.DataFrame([_identity(run) for run in study.runs])
        known = planned.merge(reference, on=IDENTITY)
        views["reference"] = {"runs": known, "summary": stats.summarise(known, study.name)}
    missing = read["not_run"][read["not_run"]["study"] == study.name]
    return {
        "name": study.name,
        "question": study.question,
        "recipes": {run.recipe_name: spec.RECIPE_DEFAULTS | run.recipe for run in study.runs},
        "plan": {key: list(dict.fromkeys(_identity(run)[key] for run in study.runs)) for key in IDENTITY},
        "total": len(study.runs),
        "records": here,
        "sources": _sources(here),
        "missing": _rows(missing),
        "views": {
            origin: view | {"rows": _by_epsilon(view["summary"])} for origin, view in views.items() if len(view["runs"])
        },
        "figures": _figures(study.name, here, views, looks),
        "specification": _specification(study),
    }


def _by_epsilon(summary: pd.DataFrame) -> list[dict]:
    """The rows with rising epsilon, otherwise in the study's order."""
    return _rows(summary.sort_values("epsilon", key=lambda column: column.astype(float), kind="stable"))


def _identity(run: spec.Run) -> dict:
    names = (run.recipe_name, run.arch, run.variant, spec.epsilon_text(run.epsilon), run.seed)
    return dict(zip(IDENTITY, names, strict=True))


def _figures(study: str, here: list[dict], views: dict, looks: dict) -> dict[str, Markup]:
    """The figures of a study by name: two of every view, and from the records curves and scale mixing."""
    drawn = {}
    for origin, view in views.items():
        if (view["runs"]["status"] == "completed").any():
            for name, draw in (("accuracy", figures.accuracy), ("differences", figures.differences)):
                name = name if origin == "here" else f"{name}-{origin}"
                drawn[name] = draw(view["runs"], view["summary"], looks, f"{study}-{name}")
    for name, section, draw in (("curves", "curve", figures.curves), ("mixing", "scale_mixing", figures.scale_mixing)):
        points = []
        for record in here:
            if record["status"] == "completed":
                keys = {key: value for key, value in columns.row(record).items() if key in (*IDENTITY, "budget")}
                points += [keys | point for point in record[section]]
        if points:
            drawn[name] = draw(pd.DataFrame(points), looks, f"{study}-{name}")
    return {name: Markup(svg) for name, svg in drawn.items() if svg}


def _specification(study: spec.Study) -> str:
    """The resolved recipes, with the defaults of what they leave out, datasets and models of a study as YAML."""
    content = {
        "recipes": {run.recipe_name: spec.RECIPE_DEFAULTS | run.recipe for run in study.runs},
        "datasets": {run.recipe["dataset"]: run.dataset for run in study.runs},
        "models": {f"{run.arch}/{run.variant}": run.resolved()["model"] for run in study.runs},
    }
    content = json.loads(json.dumps(content))  # recipes share parts, which YAML would show as aliases
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _claim(name: str, claim: dict, table: pd.DataFrame, pages: list[dict]) -> dict:
    """A claim, the verdict that stands in the table, and the one that the same rule gives our reference."""
    decided = {row["name"]: row for row in _rows(table)}
    if name not in decided:
        raise BenchError(f"{RESULTS}/claims.csv: claim {name} is missing; {SUMMARISE}")
    page = next(page for page in pages if page["name"] == claim["study"])
    verdicts = {"here": decided[name]}
    if "reference" in page["views"]:
        verdicts["reference"] = claims.decide(name, claim, page["views"]["reference"]["runs"])
    arm = {"recipe": claim.get("recipe"), "arch": claim["arch"], "epsilon": verdicts["here"]["epsilon"]}
    rows = {
        origin: [row for row in view["rows"] if all(row[key] == value for key, value in arm.items() if value)]
        for origin, view in page["views"].items()
    }
    return claim | {"name": name, "verdicts": verdicts, "rows": rows}


def _official(published: pd.DataFrame, made: list[dict]) -> set[str]:
    """Labels of datasets that are what the papers used: verified here, or published and not denied here."""
    verified = {record["data"]["label"] for record in made if record["data"]["official"]}
    return {*published["dataset"], *verified} - {r["data"]["label"] for r in made if not r["data"]["official"]}


def _ledger(made: list[dict]) -> list[dict]:
    """A row per recipe and epsilon: what its longest run spent."""
    rows: dict[tuple, dict] = {}
    for record in made:
        row = columns.row(record) | {key: record["privacy"][key] for key in ("sampling", "adjacency")}
        row["batch_size"] = record["run"]["recipe"]["batch_size"]
        key = row["recipe"], float(row["epsilon"])
        rows[key] = max(row, rows.get(key, row), key=lambda entry: entry["steps"])
    return [rows[key] for key in sorted(rows)]


def _sources(here: list[dict]) -> list[dict]:
    """A row per state of the sources, the oldest first: its digest, how many runs it made, commits and first day."""
    rows: dict[str, dict] = {}
    for provenance in sorted((record["provenance"] for record in here), key=lambda provenance: provenance["started"]):
        new = {"digest": provenance["source_digest"], "runs": 0, "commits": [], "day": provenance["started"][:10]}
        row = rows.setdefault(new["digest"], new)
        row["runs"] += 1
        row["commits"] = list(dict.fromkeys([*row["commits"], provenance["commit"][:10]]))
    return list(rows.values())


def _origins(made: list[dict]) -> tuple[list[dict], dict[str, int]]:
    """(what runs were made of, as `_distinct` gives it for ORIGIN; by run id the number of its row, from 1)"""
    parts = [record["machine"] | record["provenance"] | {"digest": record["data"]["digest"]} for record in made]
    rows = _distinct(parts, ORIGIN)
    numbers = {tuple(row[key] for key in ORIGIN): number for number, row in enumerate(rows, 1)}
    return rows, {r["run"]["id"]: numbers[tuple(part[key] for key in ORIGIN)] for r, part in zip(made, parts, strict=True)}


def _speed(table: pd.DataFrame) -> list[dict]:
    """A group per device and case: its rows, with memory relative to the step that is not private, and what ScaleNorm costs.

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
        groups.append(dict(zip(case, key, strict=True)) | {"rows": _rows(rows), "overhead": overhead})
    return groups


def _distinct(items: list[dict], keys: tuple[str, ...]) -> list[dict]:
    """The different values of `keys` among `items`, in order of appearance, and how many `runs` have each."""
    counts: dict[tuple, int] = {}
    for item in items:
        values = tuple(item[key] for key in keys)
        counts[values] = counts.get(values, 0) + 1
    return [dict(zip(keys, values, strict=True)) | {"runs": count} for values, count in counts.items()]


def _data_uri(text: str) -> str:
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
