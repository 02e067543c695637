"""The report: one self-contained HTML page from the tables, the records and the references; no clock, no network."""

import base64
import io
import math
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from bench import ROOT, BenchError, claims, figures, records, spec, stats, tables

RESULTS = Path("results")
REFERENCE = ROOT / "results" / "reference"
TEMPLATES = ROOT / "workflow" / "report"
IDENTITY = ["recipe", "arch", "variant", "epsilon", "seed"]
MACHINE = ("device_name", "cpu", "platform", "python", "torch", "cuda", "opacus", "dp-accounting", "numpy", "threads",
           "engine", "physical_batch")  # fmt: skip
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
    page = _template().render(
        studies=pages,
        claims=[_claim(name, claim, read["claims"], pages) for name, claim in config["claims"].items()],
        records=made,
        official=_official(published, made),
        ledger=_ledger(made),
        published={name: _rows(group) for name, group in published.groupby("comparable_with")},
        speed=_rows(speed),
        machines=_distinct([record["machine"] for record in made], MACHINE),
        splits=_distinct([record["data"] for record in made], SPLIT),
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
    environment.filters |= {function.__name__: function for function in (number, interval, significant, duration, listing)}
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
    views = {"here": {"runs": records.frame(here), "summary": summary[summary["study"] == study.name]}}
    if len(reference):
        planned = pd.DataFrame([_identity(run) for run in study.runs])
        known = planned.merge(reference, on=IDENTITY)
        views["reference"] = {"runs": known, "summary": stats.summarise(known, study.name)}
    missing = read["not_run"][read["not_run"]["study"] == study.name]
    return {
        "name": study.name,
        "question": study.question,
        "recipe": study.runs[0].recipe_name,
        "plan": {key: list(dict.fromkeys(_identity(run)[key] for run in study.runs)) for key in IDENTITY},
        "delta": study.runs[0].recipe["delta"],
        "total": len(study.runs),
        "records": here,
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
                keys = {key: value for key, value in records.row(record).items() if key in IDENTITY}
                points += [keys | point for point in record[section]]
        if points:
            drawn[name] = draw(pd.DataFrame(points), looks, f"{study}-{name}")
    return {name: Markup(svg) for name, svg in drawn.items() if svg}


def _specification(study: spec.Study) -> str:
    """The resolved recipe, dataset and models of a study as YAML."""
    plan = [run.resolved() for run in study.runs]
    models = {f"{run.arch}/{run.variant}": resolved["model"] for run, resolved in zip(study.runs, plan, strict=True)}
    content = {"recipe": plan[0]["recipe"], "dataset": plan[0]["dataset"], "models": models}
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
    return claim | {"name": name, "verdicts": verdicts, "page": page}


def _official(published: pd.DataFrame, made: list[dict]) -> set[str]:
    """Labels of datasets that are what the papers used: verified here, or published and not denied here."""
    verified = {record["data"]["label"] for record in made if record["data"]["official"]}
    return {*published["dataset"], *verified} - {r["data"]["label"] for r in made if not r["data"]["official"]}


def _ledger(made: list[dict]) -> list[dict]:
    """A row per recipe and epsilon: what its longest run spent."""
    rows: dict[tuple, dict] = {}
    for record in made:
        row = records.row(record) | {key: record["privacy"][key] for key in ("sampling", "adjacency")}
        row["batch_size"] = record["run"]["recipe"]["batch_size"]
        key = row["recipe"], float(row["epsilon"])
        rows[key] = max(row, rows.get(key, row), key=lambda entry: entry["steps"])
    return [rows[key] for key in sorted(rows)]


def _distinct(items: list[dict], keys: tuple[str, ...]) -> list[dict]:
    """The different values of `keys` among `items`, in order of appearance, and how many `runs` have each."""
    counts: dict[tuple, int] = {}
    for item in items:
        values = tuple(item[key] for key in keys)
        counts[values] = counts.get(values, 0) + 1
    return [dict(zip(keys, values, strict=True)) | {"runs": count} for values, count in counts.items()]


def _data_uri(text: str) -> str:
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


# Filters of the template. What was not measured, None or NaN, is a dash.


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """'91.39', '-0.42' with a true minus, with `sign` also '+0.42'; never '-0.00'."""
    if pd.isna(value):
        return NOTHING
    value = round(value, digits) or 0
    return f"{value:{'+' if sign and value else ''},.{digits}f}".replace("-", MINUS)


def interval(row: dict, prefix: str = "", sign: bool = False) -> str:
    """'[90.10, 92.60]' from the columns <prefix>low and <prefix>high of `row`."""
    low, high = (row[f"{prefix}{end}"] for end in ("low", "high"))
    return NOTHING if pd.isna(low) else f"[{number(low, sign=sign)}, {number(high, sign=sign)}]"


def significant(value: float | str | None, digits: int = 3) -> str:
    """'2.67', '3.00', '1e-5' with one digit; infinity is a sign."""
    if pd.isna(value):
        return NOTHING
    value = float(value)
    if math.isinf(value):
        return "∞"
    text = f"{value:.{digits - 1}e}" if 0 < abs(value) < 1e-3 else f"{value:#.{digits}g}".rstrip(".")
    return text.replace("e-0", "e-").replace("-", MINUS)


def duration(seconds: float) -> str:
    """'11 s', '7 min' or '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listing(items) -> str:
    """'a, b and c'."""
    *most, last = [str(item) for item in items] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
