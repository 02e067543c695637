"""What a terminal shows: commands to copy, times, bars, lines that fit. Text in, text out; it knows no record and no run."""

import math
import os
import shlex
import shutil
import sys
from pathlib import Path

from bench import ROOT

ELLIPSIS, NOTHING, GAP = "…", "-", "  "
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
SHORTEST_NAME = 20  # columns of a name; facts are dropped rather than less of it shown
BAR = range(6, 13)  # columns of a bar in a table


def command(*words: str) -> str:
    """`bench WORDS` as it works when it is copied in this folder and this environment. For terminals, never for records."""
    environment = ROOT / ".venv"
    if Path(sys.prefix).resolve() == environment.resolve():  # that of `make`, which is on nobody's PATH
        name = "bench" if (environment / "bin/bench").exists() else "python -m bench"
        program = f"{min(os.path.relpath(environment), str(environment), key=len)}/bin/{name}"
    else:
        found = shutil.which("bench")
        program = "bench" if found and Path(found).parent == Path(sys.executable).parent else "python -m bench"
    return f"{program} {shlex.join(words)}"


def width_of(stream) -> int:
    """Columns of the terminal behind `stream`, or 80; COLUMNS in the environment wins."""
    return shutil.get_terminal_size((80, 24)).columns if is_terminal(stream) or "COLUMNS" in os.environ else 80


def is_terminal(stream) -> bool:
    """Whether `stream` is drawn on: a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colour(stream) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def say_for_now(text: str) -> None:
    """A line on stderr that the next one replaces, "" with nothing; in a file nothing at all."""
    if is_terminal(sys.stderr):
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def paint(text: str, style: str, colour: bool) -> str:
    """`text` in one of STYLES, where there is `colour`."""
    return f"\033[{STYLES[style]}m{text}\033[0m" if colour and text.strip() else text


def duration(seconds: float | None) -> str:
    """'12 s', '7 min', '2.5 h' or '3.1 d'; 'unknown' for None."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` columns, cut in the middle: of a run the end, variant, epsilon and seed, tells most."""
    if len(text) <= width:
        return text
    if width < 3:
        return text[:width]
    head = (width - 1) // 3
    return f"{text[:head]}{ELLIPSIS}{text[len(text) - (width - 1 - head) :]}"


def bar(fraction: float, width: int) -> str:
    """A bar of `width` columns, in colour, of which `fraction` is done."""
    done = min(width, max(0, math.floor(fraction * width)))
    return paint("━" * done, "green", True) + paint("─" * (width - done), "dim", True)


def table(rows: list[list[str]], width: int, least: tuple[int, ...] = ()) -> list[list[str]]:
    """The cells of `rows` padded so that a row joined by GAP has at most `width` columns: names left, the rest right.

    Where they do not fit, names are shortened; where little of them would be left, the columns `least` go, in this order.
    """
    kept = list(range(len(rows[0])))
    sizes = [max(len(row[column]) for row in rows) for column in kept]

    def room() -> int:
        return width - sum(sizes[column] + len(GAP) for column in kept[1:])

    for column in least:
        if room() < min(sizes[0], SHORTEST_NAME):
            kept.remove(column)
    sizes[0] = min(sizes[0], max(1, room()))
    return [
        [shorten(row[0], sizes[0]).ljust(sizes[0]), *(row[column].rjust(sizes[column]) for column in kept[1:])]
        for row in rows
    ]


def run_table(runs: list[dict], width: int, colour: bool = False) -> list[str]:
    """A heading and a line a run: name, bar (without `colour` percent), steps, epsilon, accuracy in percent, time left.

    A run is a dict with `run` and, where known, `step`, `steps`, `epsilon`, `accuracy`, `seconds_left`.
    """
    rows = [["running", "step", "eps", "test", "left"]]
    for facts in runs:
        numbers = _number(facts.get("epsilon"), ".2f"), _number(facts.get("accuracy"), ".2f")
        left = NOTHING if facts.get("seconds_left") is None else duration(facts["seconds_left"])
        rows.append([facts["run"], _steps(facts), *numbers, left])
    used = sum(max(len(row[column]) for row in rows) + len(GAP) for column in range(5))
    size = min(BAR[-1], max(BAR[0], width - used)) if colour else len("100 %")
    longest = max(len(row[0]) for row in rows)
    roomy = min(longest, longest + width - used - size) >= min(longest, 1.5 * SHORTEST_NAME)
    blank = [size * " "] if roomy else []
    head, *cells = table([[row[0], *blank, *row[1:]] for row in rows], width, least=() if roomy else (2, 3, 1, 4))
    lines = [paint(GAP.join(head), "dim", colour)]
    for facts, row in zip(runs, cells, strict=True):
        if roomy:
            row[1] = bar(_fraction(facts), size) if colour else f"{_fraction(facts):.0%}".replace("%", " %").rjust(size)
        lines.append(GAP.join(row))
    return lines


def run_line(facts: dict, width: int) -> str:
    """One line of at most `width` columns on a run that trains, the least important facts dropped first.

    Facts, all but the name optional: `run` (its name), `step`, `steps`, `epsilon`, `loss`, `images_per_second`,
    `seconds_left`, `accuracy` (percent, of the last evaluation).
    """

    def fact(name: str, text: str) -> str:
        return text.format(facts[name]) if facts.get(name) is not None else ""

    left = f"{duration(facts['seconds_left'])} left" if facts.get("seconds_left") is not None else ""
    steps = f"step {_steps(facts)}" if facts.get("step") is not None else ""
    parts = [facts["run"], steps, fact("epsilon", "eps {:.3g}"), fact("loss", "loss {:.3f}")]
    parts += [fact("images_per_second", "{:.0f} img/s"), fact("accuracy", "test {:.2f} %"), left]
    kept = [part for part in parts if part or part is parts[0]]
    unimportant = [part for part in (parts[4], parts[3], parts[2], parts[5], steps, left) if part]
    while len(GAP.join(kept)) > width and unimportant:
        # the first two go before the name is touched, the others where little of it would be left
        room = width - len(GAP.join(kept[1:])) - len(GAP)
        if unimportant[0] not in parts[3:5] and room >= min(len(parts[0]), SHORTEST_NAME):
            break
        kept.remove(unimportant.pop(0))
    rest = GAP.join(kept[1:])
    room = width - (len(rest) + len(GAP) if rest else 0)
    return GAP.join([shorten(parts[0], max(1, room)), *kept[1:]])[:width]


def _steps(facts: dict) -> str:
    if facts.get("step") is None:
        return NOTHING
    return f"{facts['step']:>{len(str(facts['steps']))}}/{facts['steps']}" if facts.get("steps") else str(facts["step"])


def _fraction(facts: dict) -> float:
    return facts["step"] / facts["steps"] if facts.get("step") and facts.get("steps") else 0.0


def _number(value: float | str | None, form: str) -> str:
    return NOTHING if value is None else format(float(value), form)
