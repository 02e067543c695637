"""Records in reserve: Snakemake deletes the output of a job that it takes for failed, finished run or not.

So a run's record is kept a second time, from its end until tables are made of it: by then Snakemake has called the job done.
The next start of the run puts it back in its place and trains nothing.
"""

from pathlib import Path

from bench import BenchError
from bench.evidence import records
from bench.plan.spec import Run

FOLDER = Path("results/kept")


def path_of(run_id: str) -> Path:
    return FOLDER / f"{run_id}.json"


def recall(run: Run, noise_multiplier: float, digest: str) -> dict | None:
    """The kept record of this very run, made with this noise from the data of this digest; None where there is none."""
    try:
        record = records.read(path_of(run.id))
    except BenchError:  # missing or damaged: the run trains
        return None
    same = records.matches(record, run) and record["privacy"]["noise_multiplier"] == noise_multiplier
    return record if same and record["data"]["digest"] == digest else None


def release(found: list[dict]) -> None:
    """Deletes what is kept of records that stand where they belong."""
    for record in found:
        path_of(record["run"]["id"]).unlink(missing_ok=True)
