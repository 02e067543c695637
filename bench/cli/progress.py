"""What `bench run` shows while it works: lines that stay and, on a terminal, lines below them that are drawn anew."""

import shutil
import sys
import time

from bench import terminal
from bench.cli.drawing import running_lines
from bench.terminal import GAP, bar, duration, paint, shorten

MINUTE = 60.0  # seconds between two lines on the whole where there is no terminal
DOING = {
    "dataset": "reading the data",
    "calibrate": "finding the noise of each epsilon",
    "train": "training",
    "summarise": "writing the tables",
    "report": "writing the report",
}


def on(stream):
    """A context with `line(text)`, for what stays, and `show(state, doing)`, for what goes on."""
    return Drawn() if terminal.is_terminal(stream) else Plain()


class Plain:
    """A line for every event, and one a minute on the whole."""

    every = 1.0  # seconds

    def __enter__(self) -> "Plain":
        self._said = time.monotonic()
        return self

    def __exit__(self, *error) -> None:
        pass

    def line(self, text: str) -> None:
        print(text, flush=True)

    def show(self, state: dict, doing: set[str]) -> None:
        if time.monotonic() - self._said >= MINUTE:
            self._said = time.monotonic()
            self.line(GAP.join(_whole(state, doing)))


class Drawn:
    """Lines that stay scroll by above a bar for the whole and a line for every run that trains."""

    every = 0.5

    def __enter__(self) -> "Drawn":
        from rich.console import Console
        from rich.live import Live

        self._colour = terminal.has_colour(sys.stdout)
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, vertical_overflow="crop"
        )
        self._live.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._live.__exit__(*error)

    def line(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text.from_ansi(text))

    def show(self, state: dict, doing: set[str]) -> None:
        from rich.text import Text

        width, height = shutil.get_terminal_size()
        count, *rest = _whole(state, doing)
        size = min(40, width - 1 - sum(len(part) + len(GAP) for part in (count, *rest)))
        parts = sum(run["step"] / run["steps"] for run in state["running"] if run["step"] and run["steps"])
        fraction = (state["all"]["done"] + parts) / max(1, state["all"]["total"])
        shown = [bar(fraction, size)] if size >= 8 and self._colour else []
        lines = [GAP.join([count, *shown, *rest])] if shown else [shorten(GAP.join([count, *rest]), width - 1)]
        if state["running"]:
            lines += running_lines(state["running"], width - 1, self._colour, most=max(2, height - 5))
        self._live.update(Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)


def finished_line(name: str, done, width: int, colour: bool = False) -> str:
    """'digits/resnet9-w8/scalenorm/eps8/seed0  97.50 %  10 s' of a run that has its record."""
    diverged = done.status == "diverged"
    outcome = paint("diverged", "yellow", colour) if diverged else f"{done.accuracy:.2f} %"
    room = width - len(f"{GAP}diverged{GAP}{duration(done.seconds)}")
    return GAP.join([shorten(name, room), outcome, duration(done.seconds)])


def _whole(state: dict, doing: set[str]) -> list[str]:
    """'37 of 128 runs', '2 failed' where some have, and what is to be expected."""
    counts = state["all"]
    parts = [f"{counts['done']} of {counts['total']} runs"] if counts["total"] else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    if counts["running"] or (counts["waiting"] and counts["seconds_left"] is not None):
        left = counts["seconds_left"]
        parts.append(f"about {duration(left)} left" if left is not None else "time left unknown")
    if not state["running"]:
        over = {"all"} if counts["waiting"] else {"all", "train"}
        words = [DOING.get(name, f"rule {name}") for name in sorted(doing - over)]
        parts.append(", ".join(words) or ("Snakemake is at work" if doing else "Snakemake looks what is to be done"))
    return parts
