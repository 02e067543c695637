"""Records: the one JSON file that a run leaves. Alone it says what was run, on what, and what came out."""

import json
import math
from pathlib import Path

from bench import BenchError, files
from bench.evidence import datasets, shape
from bench.plan.spec import Run

FORMAT = 1
OTHER_DATA = "made from other data; run again"
STATUSES = ("completed", "diverged")
COMMITTED = "restore the file with `git checkout`, or promote the run again"  # the way out of a damaged committed line


def write(record: dict, path: Path) -> None:
    """Writes by rename, so that a record exists whole or not at all."""
    write_text(_text({"format": FORMAT} | _finite(record)), path, lasting=True)


def write_text(text: str, path: Path, *, lasting: bool = False) -> None:
    """Writes by rename; what fails leaves nothing. With `lasting` a power cut does not undo it."""
    files.replace(path, lambda file: file.write(text.encode()), lasting=lasting)


def write_changed(text: str, path: Path) -> None:
    """Writes unless this very text stands there, so that the file's time says when it changed last."""
    try:
        same = path.read_text() == text
    except (OSError, ValueError):
        same = False
    if not same:
        write_text(text, path)


def read(path: Path) -> dict:
    """The record at `path`; BenchError with the way out when it is damaged or of another format."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise BenchError(f"{path}: damaged record ({error}); delete the file and run again: only this run trains") from None
    return _parse(text, str(path), "delete the file and run again: only this run trains")


def read_lines(path: Path, way_out: str = COMMITTED) -> list[dict]:
    """The records of a file with one a line, as `lines` writes them; BenchError with the first bad line."""
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({error}); {way_out}") from None
    return parse_lines(text, str(path), way_out)


def parse_lines(text: str, place: str, way_out: str) -> list[dict]:
    """The records of `text`, one a line; BenchError with `place`, the number of the first bad line, and the `way_out`."""
    return [_parse(row, f"{place}:{number}", way_out) for number, row in enumerate(text.splitlines(), 1)]


def lines(records: list[dict]) -> str:
    """The records as read, one a line, in the order of recipe, arch, variant, epsilon and seed."""
    return "".join(json.dumps(r, sort_keys=True, separators=(",", ":")) + "\n" for r in sorted(records, key=_order))


def _order(record: dict) -> tuple:
    run = record["run"]
    return *run["id"].split("/")[:3], float(run["epsilon"]), run["seed"]


def _parse(text: str, place: str, way_out: str) -> dict:
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise BenchError(f"{place}: record format {record['format']}, this version reads {FORMAT}; train the run again")
        if problem := shape.problem(record):
            raise ValueError(problem)
        if record["status"] not in STATUSES:
            raise ValueError(f"status: {record['status']!r} is none of {', '.join(STATUSES)}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BenchError(f"{place}: damaged record ({error}); {way_out}") from None
    return record


def matches(record: dict, run: Run) -> bool:
    """Whether the record was made from this very specification."""
    return json.dumps(record["run"], sort_keys=True) == run.json()


def collect(runs: list[Run]) -> tuple[list[dict], dict[str, str]]:
    """(records that exist, match and were made from the data of now, reason for every other run by id).

    BenchError lists all damaged records.
    """
    existing, damaged = {}, []
    for run in runs:
        if run.path.exists():
            try:
                existing[run.id] = read(run.path)
            except BenchError as error:
                damaged.append(str(error))
    if damaged:
        raise BenchError("\n".join(damaged))
    matching, missing = match(runs, existing)
    now = {name: datasets.digest_of(name) for name in {record["data"]["name"] for record in matching}}
    found = [record for record in matching if not datasets.differs(record, now[record["data"]["name"]])]
    stale = {record["run"]["id"] for record in matching} - {record["run"]["id"] for record in found}
    return found, missing | {run.id: OTHER_DATA for run in runs if run.id in stale}


def match(runs: list[Run], by_id: dict[str, dict]) -> tuple[list[dict], dict[str, str]]:
    """(records of `by_id` that match, reason for every other run by id), in the order of `runs`."""
    found, missing = [], {}
    for run in runs:
        record = by_id.get(run.id)
        if record is not None and matches(record, run):
            found.append(record)
        else:
            missing[run.id] = "made from another configuration; run again" if record else "not run"
    return found, missing


def _text(record: dict) -> str:
    """JSON with a section a line, and a line for every evaluation and block: a fourth shorter than with a line a value."""

    def section(value) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(_short(item) for item in value) + "\n ]"
        return _short(value)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {section(record[key])}" for key in sorted(record)) + "\n}\n"


def _short(value) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _finite(value):
    """JSON has no infinity: it is written as the text 'inf', and NaN as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
