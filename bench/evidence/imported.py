"""Records of others, by the label that they were imported under. They stand beside ours: no mean and no claim counts them."""

from pathlib import Path

from bench.evidence import records

FOLDER = Path("results/imported")
WAY_OUT = "delete the file and import it again"


def path_of(label: str) -> Path:
    """Of the records, one a line; a table of them stands beside it, as `.csv`."""
    return FOLDER / f"{label}.jsonl"


def read() -> dict[str, list[dict]]:
    """The records of every label, as far as there are any; BenchError with the first bad line."""
    return {path.stem: records.read_lines(path, WAY_OUT) for path in sorted(FOLDER.glob("*.jsonl"))}
