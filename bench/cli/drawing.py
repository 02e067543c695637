"""The state of the studies, as `bench.evidence.status` tells it, in lines that fit a terminal."""

import textwrap

from bench.terminal import GAP, NOTHING, command, duration, paint, run_table, shorten, table

COUNTS = ("done", "running", "failed", "waiting", "total")
STYLES = {"running": "cyan", "failed": "red"}
FEW = 5  # failed and stopped runs that are named


def state_lines(state: dict, width: int, colour: bool = False, height: int | None = None) -> list[str]:
    """The table of studies, the runs that train now, and what failed or was stopped.

    In less than its `height` studies that have not begun are one line, then some of the running ones are left out.
    """
    studies = study_lines(state["studies"], width, colour)
    rest = []
    if state["failed"]:
        rest += ["", paint(f"{len(state['failed'])} failed", "red", colour), *failed_lines(state["failed"], width)]
    if state["stopped"]:
        heading = f"{len(state['stopped'])} stopped; the same command goes on"
        rest += ["", paint(heading, "yellow", colour), *stopped_lines(state["stopped"], width)]
    if not (state["all"]["done"] or state["running"] or rest):
        rest += ["", f"Nothing has finished here yet; `{command('run')}` trains"]
    running = len(state["running"]) + 2 if state["running"] else 0
    if height is not None and len(studies) + running + len(rest) > height:
        begun = [row for row in state["studies"] if row["waiting"] < row["total"]]
        hidden = len(state["studies"]) - len(begun)
        if begun and hidden:
            studies = [*study_lines(begun, width, colour), f"and {hidden} {'study' if hidden == 1 else 'studies'} not begun"]
    most = None if height is None else max(3, height - len(studies) - len(rest) - 2)
    runs = ["", *running_lines(state["running"], width, colour, most)] if state["running"] else []
    return [*studies, *runs, *rest]


def study_lines(studies: list[dict], width: int, colour: bool = False) -> list[str]:
    rows = [["study", *COUNTS, "left"]]
    for row in studies:
        unfinished = row["running"] + row["waiting"]
        left = duration(row["seconds_left"]) if unfinished else NOTHING
        rows.append([row["study"], *(str(row[count]) for count in COUNTS), left])
    head, *cells = table(rows, width, least=(4, 3, 2, 1))
    styles = dict(enumerate(STYLES.get(name.strip()) for name in head))
    lines = [paint(GAP.join(head), "bold", colour)]
    for row, texts in zip(studies, cells, strict=True):
        done = row["done"] == row["total"]
        texts = [
            paint(text, styles[i], colour) if styles[i] and text.strip() != "0" else text for i, text in enumerate(texts)
        ]
        lines.append(paint(GAP.join(texts), "green", colour) if done else GAP.join(texts))
    diverged = sum(row["diverged"] for row in studies)
    if diverged:
        lines.append(f"{diverged} of the finished runs diverged")
    return lines


def running_lines(running: list[dict], width: int, colour: bool = False, most: int | None = None) -> list[str]:
    """A heading and a line a run; where there are more than `most`, how many are left out."""
    shown = running if most is None or len(running) <= most else running[: max(1, most - 1)]
    lines = run_table(shown, width, colour)
    if len(shown) < len(running):
        lines.append(f"and {len(running) - len(shown)} more")
    return lines


def failed_lines(failed: list[dict], width: int) -> list[str]:
    """Each run with its reason in full below it and where its log is, the first FEW of them."""
    lines = []
    for run in failed[:FEW]:
        lines.append(shorten(run["run"], width))
        reasons = [" ".join((run.get("reason") or "no reason was left").split())]
        reasons += [f"log: {run['log']}"] if run.get("log") else []
        for text in reasons:
            lines += textwrap.wrap(text, width, initial_indent=GAP, subsequent_indent=GAP)
    return lines + _rest(failed)


def stopped_lines(stopped: list[dict], width: int) -> list[str]:
    """Each run with where it stopped, the first FEW of them; reasons are cut before names are."""
    lines = []
    for run in stopped[:FEW]:
        at = f"at step {run['step']} of {run['steps']}" if run.get("step") and run.get("steps") else ""
        reason = " ".join((run.get("reason") or "").split()).partition(";")[0]
        lines.append(f"{shorten(run['run'], width)}{GAP}{at or reason}"[:width].rstrip())
    return lines + _rest(stopped)


def _rest(runs: list[dict]) -> list[str]:
    return [f"and {len(runs) - FEW} more"] if len(runs) > FEW else []
