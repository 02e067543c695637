"""Snakemake as a process of ours: how it is called, how signals reach it, and what its output says."""

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from bench import ROOT, BenchError, files
from bench.terminal import command

PROGRAM = [sys.executable, "-m", "snakemake"]
OPTIONS = ["--keep-going", "--show-failed-logs", "--rerun-incomplete"]
LOG = Path("results/logs/snakemake.log")
LEAST = 2**16  # bytes free, below which a disk is full
SIGNALS = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
# With these Snakemake answers and trains nothing: the answer belongs on the terminal.
ANSWERS = ("--dry-run", "--dryrun", "--unlock", "--lint", "--list", "--summary", "--detailed-summary", "--dag", "--rulegraph")
ANSWERS += ("--help", "--version", "--filegraph", "--touch", "--cleanup-metadata", "--list-rules", "--delete-all-output")


def arguments(cores: str, targets: list[str], settings: list[str], more: list[str]) -> list[str]:
    """The command line; targets stand in front, since Snakemake's --config takes whatever follows it."""
    if find_spec("snakemake") is None:
        raise BenchError(f"{sys.executable} has no Snakemake, which does the work of `run`; install it there, or use `make`")
    snakefile = [] if Path("Snakefile").exists() else ["--snakefile", str(ROOT / "Snakefile")]
    config = ["--config", *settings] if settings else []
    return [*PROGRAM, *targets, *snakefile, "--cores", cores, *OPTIONS, *config, *more]


def answers(more: list[str]) -> bool:
    """Whether the options ask for an answer rather than for work."""
    short = any(re.fullmatch(r"-[nphvqFfRkl]*[nhvl][nphvqFfRkl]*", option) for option in more)
    return short or any(option.split("=")[0] in ANSWERS for option in more)


class Process:
    """Snakemake at work, its output in LOG. Use as a context: on leaving it no process is left behind.

    BenchError where another one is at work in this folder, which keeps its LOG.
    Snakemake and its jobs are a group of their own, so that a terminal's Ctrl-C reaches them once, through here: SIGINT and
    SIGTERM go to the whole group, whose runs save their state and end. `asked` is the signal that came, or None.
    """

    def __init__(self, line: list[str]):
        self.line, self.asked = line, None

    def __enter__(self) -> "Process":
        LOG.parent.mkdir(parents=True, exist_ok=True)
        log = LOG.open("ab")
        try:  # Snakemake inherits the lock, and holds it should this process be killed
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(
                "another run, or what a killed one left, is at work in this folder; "
                f"`{command('status')}` shows how far it is"
            ) from None
        except OSError:  # a file system without locks: Snakemake has one of its own
            pass
        # before the start: what is ignored here, as in a background job, would be ignored there
        self._before = {number: signal.signal(number, self._forward) for number in SIGNALS}
        with log:
            log.truncate(0)
            self._process = subprocess.Popen(
                self.line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(self, *error) -> None:
        if self.code is None:
            self._send(signal.SIGTERM)
            self._process.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def _forward(self, number: int, frame) -> None:
        self.asked = self.asked or SIGNALS[number]
        self._send(SIGNALS[number])

    def _send(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)


class Output:
    """What LOG says, read as it grows."""

    def __init__(self):
        self.text, self._active, self._rule = "", {}, ""
        self._failing = False
        self._rest, self._file = "", LOG.open(errors="replace")

    def read(self) -> None:
        new = self._file.read()
        self.text += new
        *lines, self._rest = (self._rest + new).split("\n")
        for line in lines:
            if found := re.match(r"(?:local)?rule (\w[\w-]*):|Error in rule ([\w-]+):", line):
                self._rule, self._failing = found[1] or found[2], found[2] is not None
            elif found := re.match(r"Job (\d+): ", line):
                self._active[found[1]] = "train"
            elif found := re.match(r"    jobid: (\d+)", line):
                if self._failing:
                    self._active.pop(found[1], None)
                else:
                    self._active[found[1]] = self._rule
            elif found := re.match(r"Finished jobid: (\d+)", line):
                self._active.pop(found[1], None)

    @property
    def doing(self) -> set[str]:
        """The rules that are at work."""
        return set(self._active.values())

    @property
    def nothing_to_do(self) -> bool:
        return "Nothing to be done" in self.text

    def failures(self) -> list[dict]:
        """The jobs that failed: `rule`, `output`, `log` (a path or None) and `reason`, the last line of that log."""
        found = []
        for block in re.findall(r"^Error in rule [\w-]+:\n(?:[ \t]+.*\n)*", self.text, re.M):
            fields = dict(re.findall(r"^    (output|log): (\S+)", block, re.M))
            log = fields.get("log", "").rstrip(",") or None
            reason = last_line(Path(log)) if log else None
            failure = {"rule": block.split()[3][:-1], "output": fields.get("output", "").rstrip(","), "log": log}
            found.append(failure | {"reason": reason or "nothing was said"})
        return list({(failure["rule"], failure["output"]): failure for failure in found}.values())

    def sentence(self) -> str:
        """Why Snakemake did not begin, without its noise."""
        if shutil.disk_usage(LOG.parent).free < LEAST:  # Snakemake, which cannot write, has said nothing
            return files.sentence(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(LOG.parent)))
        if "Directory cannot be locked" in self.text:
            return (
                "another Snakemake is at work in this folder, or one was killed. If none is, "
                f"`{command('run', '--', '--unlock')}` takes the lock away; then run again"
            )
        heads = list(re.finditer(r"^\w*(?:Exception|Error)(?: in (?:file|rule) .*)?:$", self.text, re.M))
        if heads:
            said = []
            for line in self.text[heads[-1].end() :].strip().splitlines():
                if re.match(r'  File "|Complete log|Elapsed time', line):
                    break
                said.append(line.removeprefix("Error: "))
            if said:
                return "\n".join(said)
        return "\n".join(self.text.strip().splitlines()[-10:])


def last_line(path: Path) -> str | None:
    """The last line of a log that says anything; carriage returns begin lines, too."""
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except OSError:
        return None
    return next((line for line in reversed(lines) if line), None)
