"""The report: one self-contained HTML page from the tables, the records and the references; no clock, no network."""

import gc
import math
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from bench import ROOT, BenchError
from bench.evidence import effects, records, tables
from bench.evidence import imported as others
from bench.evidence.summary import bits_of
from bench.plan import spec
from bench.report import agreement, answer, claims, downloads, dynamics, figures, formats, imported, origins, sections, words
from bench.report.about import cited
from bench.report.canvas import styles
from bench.report.dictionary import COLUMNS
from bench.report.drawing import drawing
from bench.report.reference import read_searches
from bench.report.studies import IDENTITY, gather, section
from bench.report.variants import explained

RESULTS = Path("results")
REFERENCE = ROOT / "results" / "reference"
TEMPLATES = ROOT / "workflow" / "report"
SUMMARISE = "run `python -m bench summarise` first"


def write(config: dict, studies: dict[str, spec.Study], out: Path) -> None:
    """Writes the page to `out` and its figures to results/figures, from the tables that `summarise` wrote.

    Raises BenchError where the tables are missing, or do not say what the records say.
    """
    read = {name: tables.read(RESULTS / f"{name}.csv", SUMMARISE) for name in tables.NAMES}
    found, newer = _records(studies, read["runs"])
    gc.freeze()  # records stay until the page is written: of thousands, the search for garbage took a tenth of the time
    _require_claims(config["claims"], read["claims"])
    page, gathered = _page(
        config,
        studies,
        found,
        read,
        reference=_optional(REFERENCE / "runs.csv"),
        bits=_bits(REFERENCE / "records.jsonl"),
        published=_published(REFERENCE),
        speed=_optional(RESULTS / "speed.csv"),
        audit=_optional(REFERENCE / "audit.csv"),
        killed=_optional(REFERENCE / "kill-points.csv"),
        searches=read_searches(REFERENCE),
        newer=newer,
        imported=imported.section(others.read(), studies, read["runs"], found),
        files={f"{name}.csv": downloads.address((RESULTS / f"{name}.csv").read_text()) for name in tables.NAMES},
        committed=False,
        outside=[],
    )
    drawn = {f"{study['name']}-{name}.svg": svg for study in gathered for name, svg in study["figures"].items() if svg}
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    for study in gathered:
        for old in (RESULTS / "figures").glob(f"{study['name']}-*.svg"):
            if old.name not in drawn:
                old.unlink()
    for name, svg in drawn.items():
        records.write_text(str(svg), RESULTS / "figures" / name)
    records.write_text(page, out)


def reference_page(config: dict, studies: dict[str, spec.Study], found: dict, made: dict, folder: Path, outside: list) -> str:
    """The same page about the committed records `found` by run id and the tables `made` of them; it has no other origin.

    `folder` has published.csv and may have speed.csv, audit.csv and kill-points.csv; `outside` are the ids of committed runs
    that no study plans.
    """
    return _page(
        config,
        studies,
        found,
        # as a reader of the files sees them: the same page from the tables in memory and from those on disk
        {name: tables.reread(table) for name, table in made.items()},
        reference=pd.DataFrame(),
        bits={},
        published=_published(folder),
        speed=_optional(folder / "speed.csv"),
        audit=_optional(folder / "audit.csv"),
        killed=_optional(folder / "kill-points.csv"),
        searches=read_searches(folder),
        newer=0,
        imported=[],
        files={f"{name}.csv": downloads.address(tables.text(table)) for name, table in made.items()},
        committed=True,
        outside=outside,
    )[0]


def _page(
    config,
    studies,
    found: dict,
    read: dict,
    *,
    committed: bool,
    reference,
    bits,
    published,
    speed,
    audit,
    killed,
    outside,
    searches,
    **more,
):
    """(HTML, what `gather` gives of each study)"""
    looks = styles([run.variant for run in study.runs] for study in studies.values())
    made = list(found.values())
    official = _official(published, made)
    names = words.origins(committed)
    with drawing(len(found)) as draw:
        gathered = [gather(study, found, read, reference, bits, looks, draw) for study in studies.values()]
        page = _template().render(
            title="ScaleNorm Bench: reference report" if committed else "ScaleNorm Bench: report",
            committed=committed,
            answer=_answer(read, published, studies),
            agreement=agreement.agreement(read["runs"], reference),
            variants=explained(config, studies),
            about=cited(),
            measured={
                f"{name}.csv": downloads.address(downloads.rounded(table)) for name, table in downloads.measured(made).items()
            },
            dictionary=COLUMNS,
            commits=words.unique(record["provenance"]["commit"][:10] for record in made),
            shown_runs=set(found),
            settings=origins.settings(made),
            overview=sections.overview(gathered, made),
            claims=claims.claims(config, studies, read["claims"], gathered, official, names),
            studies=[section(study, official, names) for study in gathered if study["views"]],
            privacy=sections.privacy(made),
            published=sections.published(published, gathered, names),
            chosen=sections.chosen(published),
            privacy_axis=_privacy_axis(published, gathered),
            speed=sections.speed(speed),
            audit=sections.audit(audit),
            killed=sections.killed(killed),
            not_run=sections.not_run(gathered, outside),
            failed=sections.failed(made),
            provenance=origins.provenance(gathered, made),
            checklist=origins.checklist(gathered, made, searches),
            specifications=[{key: study[key] for key in ("name", "recipes", "specification")} for study in gathered],
            **more,
        )
    return page, gathered


def _answer(read: dict, published: pd.DataFrame, studies: dict[str, spec.Study]) -> dict:
    """The first screen: sentences, and the rows of the forest plot with its figure."""
    known = effects.ours(read["summary"], studies)
    rows = answer.rows(known, effects.published(published))
    return {
        "sentences": answer.sentences(known, read["claims"].to_dict("records")),
        "rows": rows,
        "forest": Markup(figures.forest(rows, "answer-forest")),
    }


def _privacy_axis(published: pd.DataFrame, gathered: list[dict]) -> Markup:
    rows = sections.privacy_axis(published, gathered)
    return Markup(dynamics.privacy_axis(rows, "privacy-axis")) if rows else Markup("")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (formats.number, formats.interval, formats.significant, formats.duration, formats.listing)
    filters += (words.epsilon, words.seeds, words.mean_sd)
    environment.filters |= {function.__name__: function for function in filters}
    environment.globals |= {function.__name__: function for function in (words.count, words.nominal, words.plural)}
    return environment.get_template("template.html")


def _optional(path: Path) -> pd.DataFrame:
    return tables.read(path, SUMMARISE) if path.exists() else pd.DataFrame()


def _bits(path: Path) -> dict:
    return bits_of(records.read_lines(path)) if path.exists() else {}


def _published(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "published.csv", dtype=str, keep_default_na=False)


def _records(studies: dict[str, spec.Study], runs: pd.DataFrame) -> tuple[dict[str, dict], int]:
    """The records that the table `runs` was made from, by run id, and the number of those that came later."""
    unique = {run.id: run for study in studies.values() for run in study.runs}
    found = {record["run"]["id"]: record for record in records.collect(list(unique.values()))[0]}
    rows = runs[[*IDENTITY, "accuracy"]].to_dict("records")
    listed = {spec.RUN_ID.format(**row): row["accuracy"] for row in rows}
    for name, told in listed.items():
        accuracy = found[name]["result"]["accuracy"] if name in found else None
        if name not in found or (accuracy is not None and not math.isclose(accuracy, told, rel_tol=1e-9)):
            raise BenchError(f"{RESULTS}/runs.csv: {name} is not what its record says; {SUMMARISE}")
    return {name: record for name, record in found.items() if name in listed}, len(found) - len(listed)


def _require_claims(claims: dict[str, dict], table: pd.DataFrame) -> None:
    lost = claims.keys() - {row["name"] for row in table.to_dict("records")}
    if lost:
        raise BenchError(f"{RESULTS}/claims.csv: claim {min(lost)} is missing; {SUMMARISE}")


def _official(published: pd.DataFrame, made: list[dict]) -> set[str]:
    """Labels of datasets that are what the papers used: verified here, or published and not denied here."""
    verified = {record["data"]["label"] for record in made if record["data"]["official"]}
    return {*published["dataset"], *verified} - {r["data"]["label"] for r in made if not r["data"]["official"]}
