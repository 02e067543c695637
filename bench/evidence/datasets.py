"""Which data a data set is now: results/datasets/NAME.json, as rule `dataset` and whatever trains leave it.

A path says where data lie, a digest which they are. A record of another digest is one of another run, and stands aside.
"""

import json
from pathlib import Path

FOLDER = Path("results/datasets")


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def text(description: dict) -> str:
    """The file's text for a description as `Dataset.describe` gives it: the same for the same data."""
    return json.dumps(description, indent=1, sort_keys=True) + "\n"


def digest_of(name: str) -> str | None:
    """The digest of the data that data set `name` is now; None where nobody has looked."""
    found = _described(name, "digest")
    return found if isinstance(found, str) else None


def size_of(name: str) -> int | None:
    """Training samples of data set `name` now; None where nobody has looked."""
    found = _described(name, "train_size")
    return found if isinstance(found, int) and found > 0 else None


def _described(name: str, key: str):
    try:
        return json.loads(path_of(name).read_text())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def differs(record: dict, digest: str | None) -> bool:
    """Whether the record was made from other data than those of `digest`; never where that is unknown."""
    return digest is not None and record["data"]["digest"] != digest
