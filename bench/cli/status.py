"""`bench status`: the state of the studies once, again and again, or as JSON."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path

from bench import terminal
from bench.cli.drawing import state_lines
from bench.evidence.status import Watcher
from bench.plan import config as configuration
from bench.plan import resolve

EVERY = 1.0  # seconds


def status(config: Path, study: str | None, watch: bool, as_json: bool) -> None:
    content = configuration.load(config)
    watcher = Watcher(resolve.studies_of(content).values() if study is None else [resolve.study_of(content, study)])
    if as_json:
        print(json.dumps(watcher.look(), indent=1, allow_nan=False))
    elif watch and terminal.is_terminal(sys.stdout):
        _watch(watcher)
    else:
        while True:
            print("\n".join(_lines(watcher)))
            if not watch:
                return
            print(flush=True)
            time.sleep(EVERY)


def _lines(watcher: Watcher, height: int | None = None) -> list[str]:
    return state_lines(watcher.look(), terminal.width_of(sys.stdout), terminal.has_colour(sys.stdout), height)


def _watch(watcher: Watcher) -> None:
    """Draws in place until Ctrl-C, which is how one leaves."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def draw() -> Text:
        height = shutil.get_terminal_size().lines
        clock = f"{time.strftime('%H:%M:%S')}  Ctrl-C leaves; what runs goes on"
        lines = [*_lines(watcher, height - 2)[: height - 2], "", clock][-height:]
        return Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop")

    # a flag, since an exception that Ctrl-C raises somewhere within a drawing can get lost there
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        # what the terminal is must be asked of it, not of a stand-in that Live puts in its place
        with Live(draw(), console=Console(highlight=False), auto_refresh=False, screen=True, redirect_stdout=False) as live:
            drawn = time.monotonic()
            while not asked:
                time.sleep(0.05)
                if time.monotonic() - drawn > EVERY:
                    live.update(draw(), refresh=True)
                    drawn = time.monotonic()
    finally:
        signal.signal(signal.SIGINT, before)
    print("\n".join(_lines(watcher)))
