"""The tables beside the records, a row a run, an arm, a claim, an unfinished study: made, written, read back."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bench import BenchError
from bench.evidence import claims, columns, summary
from bench.plan.spec import Study, epsilon_text

NAMES = ("runs", "summary", "claims", "not_run")
# Read as text, where a parser would see numbers: '193e5' can be a digest, '2.10' a version.
TEXT = dict.fromkeys(("epsilon", "commit", "source_digest", "dataset_digest", "dataset_digests", "torch", "opacus"), str)

Collect = Callable[[list], tuple[list[dict], dict[str, str]]]


def build(config: dict, studies: dict[str, Study], collect: Collect, why_not: Callable[[Study, dict], str]) -> dict:
    """{name: table} for NAMES from the records that `collect` finds for a study's runs, as `records.collect` does.

    `why_not` says in a sentence why the missing runs of a study, {id: reason}, are missing.
    """
    found, not_run, summaries, decided = [], [], [], []
    for study in studies.values():
        here, missing = collect(list(study.runs))
        found += here
        table = columns.frame(here)
        summaries.append(summary.of_study(table, study.name, summary.bits_of(here)))
        decided += claims.of_study(config, study, table)
        if missing:
            counts = {"study": study.name, "missing": len(missing), "runs": len(study.runs)}
            not_run.append(counts | {"reason": why_not(study, missing)})
    unique = list({record["run"]["id"]: record for record in found}.values())
    return {
        "runs": columns.frame(unique),
        "summary": pd.concat([table for table in summaries if len(table)] or summaries[:1]),
        "claims": pd.DataFrame(decided),
        "not_run": pd.DataFrame(not_run, columns=["study", "missing", "runs", "reason"]),
    }


def text(table: pd.DataFrame) -> str:
    """The table as CSV, the same bytes for the same values."""
    return table.to_csv(index=False, float_format="%.10g")


def reread(table: pd.DataFrame) -> pd.DataFrame:
    """The table as a reader of its file sees it: the same from memory and from disk."""
    return read(io.StringIO(text(table)), "")


def read(path: Path | io.StringIO, way_out: str) -> pd.DataFrame:
    """The CSV at `path`, empty where it has no columns; BenchError with the `way_out` where it cannot be read."""
    try:
        table = pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values=[""])
        if "epsilon" in table:  # a table that was edited elsewhere may say 8.0
            table["epsilon"] = table["epsilon"].map(lambda value: epsilon_text(float(value)))
        return table
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({error}); {way_out}") from None
