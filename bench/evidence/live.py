"""What a run says of itself until its record stands: one small file a run, which `status` and progress lines read."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path

from bench import files
from bench.evidence import records
from bench.plan.spec import Run

FOLDER = Path("results/live")
SILENT = 600  # seconds after which a run on another machine is taken for dead
STATES = ("running", "stopped", "failed")
DIED = "its process has ended"  # without a word: it was killed


def path_of(run: Run) -> Path:
    return FOLDER / f"{run.id}.json"


def write(run: Run, state: str, **facts) -> None:
    """Says, by rename, that `run` is in `state`, one of STATES.

    Facts, all optional: `step`, `steps`, `epsilon` (RDP, spent so far), `accuracy` (percent, of the last evaluation),
    `seconds` (of training so far), `seconds_left`, `reason` (of what is stopped or failed).
    """
    content = {"state": state, "pid": os.getpid(), "host": platform.node(), "updated": time.time()} | facts
    with contextlib.suppress(OSError):  # a full disk, say: the run itself does not depend on what is said of it
        records.write_text(json.dumps(content) + "\n", path_of(run))


def delete(run: Run) -> None:
    path_of(run).unlink(missing_ok=True)
    files.sweep(path_of(run))


def read(runs: Iterable[Run]) -> dict[str, dict]:
    """By run id what the runs say of themselves; `running` becomes `stopped` where no process is behind it any more."""
    found = {}
    for run in runs:
        try:
            said = json.loads(path_of(run).read_text())
        except (OSError, ValueError):  # nothing said, or in another version's words
            continue
        if said.get("state") == "running" and not _alive(said):
            said |= {"state": "stopped", "reason": DIED}
        if said.get("state") in STATES:
            found[run.id] = said
    return found


def _alive(said: dict) -> bool:
    if said.get("host") != platform.node():
        return time.time() - said.get("updated", 0) < SILENT
    return exists(said["pid"])


def exists(pid: int) -> bool:
    """Whether this machine has a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
