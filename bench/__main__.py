"""`python -m bench <verb>`: every step of the pipeline, files in, files out, with or without Snakemake."""

import argparse
import os
import sys
from fractions import Fraction
from pathlib import Path

from bench import BenchError, commands, warm


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == [warm.SERVE]:
        return warm.serve(*arguments[1:], main)
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="ScaleNorm Bench: train variants of residual networks with differential privacy, over seeds and "
        "epsilons, and report what the differences are worth. `make` runs everything; the verbs are its steps.",
        epilog="Start with `check`. Files are read and written relative to the working directory.",
    )
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="default: %(default)s")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    verb("check", "validate the configuration; list studies, their runs, what can run here and about how long it takes")

    runs = verb("runs", "print one run a line: its id and the path of its record")
    runs.add_argument("--study", help="only this study")

    describe = verb("describe", "print a network: its residual blocks, filled sites, layers and parameter count")
    describe.add_argument("arch", help="e.g. resnet9")
    describe.add_argument("variant", help="e.g. scalenorm")
    describe.add_argument("--dataset", default="cifar10", help="decides input channels and size (default: %(default)s)")

    epsilon = verb("epsilon", "print the epsilon that a training run spends, by RDP and PLD accounting")
    epsilon.add_argument("--noise-multiplier", type=float, required=True, metavar="S", help="noise std over clip norm")
    epsilon.add_argument("--sample-rate", type=_rate, required=True, metavar="Q", help="a number or a fraction like 1/49")
    epsilon.add_argument("--steps", type=int, required=True, metavar="T", help="optimiser steps, empty batches included")
    epsilon.add_argument("--delta", type=float, required=True, metavar="D", help="e.g. 1e-5")

    dataset = verb("dataset", "read, check and cache a dataset; write its description (sizes, digest) as JSON")
    dataset.add_argument("name", help="a dataset of the configuration")
    dataset.add_argument("--out", type=Path, help="default: print")

    calibrate = verb("calibrate", "find the noise multiplier of a recipe at an epsilon; write it as JSON")
    calibrate.add_argument("recipe", help="a recipe of the configuration")
    calibrate.add_argument("epsilon", type=float, help="e.g. 8 or inf")
    calibrate.add_argument("--out", type=Path, help="default: print")

    train = verb("train", "train one run and write its record; exit code 0 also when it diverged, which the record states")
    which = train.add_mutually_exclusive_group(required=True)
    which.add_argument("run", nargs="?", help="an id that `runs` prints")
    which.add_argument("--study", help="every run of it that is missing, seed by seed; several processes share the work")
    which.add_argument("--run-json", metavar="JSON", help="the specification itself, as a record holds it under `run`")
    train.add_argument("--epsilon", type=float, help="with --study: only its runs at this epsilon")
    train.add_argument("--noise", type=Path, help="what `calibrate` wrote (default: calibrate now)")
    train.add_argument("--out", type=Path, help="default: the run's path under results/runs")

    train.add_argument(
        "--stop-after",
        type=_duration,
        metavar="TIME",
        help="90s, 9m or 1.5h after the start: save a checkpoint and end with exit code 75; the same command then goes on",
    )

    verb("summarise", "write results/runs.csv, summary.csv, claims.csv and not_run.csv from the records that exist")

    report = verb("report", "write the report from the tables and records")
    report.add_argument("--out", type=Path, default=Path("report/report.html"), help="default: %(default)s")

    promote = verb("promote", "take finished runs into results/reference; refuses those of uncommitted sources")
    promote.add_argument("--study", action="extend", nargs="+", default=[], metavar="NAME", help="their finished runs")
    promote.add_argument("--speed", action="store_true", help="the speed table results/speed.csv")

    verb(
        "reference",
        "make the tables under results/reference, report/reference.html and the tables in README.md and results/README.md "
        "again from the committed records, training nothing",
    )

    compare = verb(
        "compare",
        "do two tables of runs agree within seed noise? Prints what differs; exit code 1 if anything does. Of a "
        "hundred pairs of tables that agree, at most one is said to differ",
    )
    compare.add_argument("first", type=Path, help="e.g. results/runs.csv")
    compare.add_argument("second", type=Path, help="e.g. results/reference/runs.csv")
    compare.add_argument("--study", metavar="NAME", help="only the arms of this study")

    options = vars(parser.parse_args(arguments))
    if (code := warm.ask(arguments)) is not None:
        return code
    if options["verb"] == "promote" and not (options["study"] or options["speed"]):
        promote.error("name what to take: --study NAME, --speed or both")
    try:
        return getattr(commands, options.pop("verb"))(**options) or 0
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left", file=sys.stderr)
        return 130


def _duration(text: str) -> float:
    """Seconds of '90s', '9m' or '1.5h'."""
    number, unit = text[:-1], {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        return float(number) * unit
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write 90s, 9m or 1.5h") from None


def _rate(text: str) -> float:
    return float(Fraction(text))


if __name__ == "__main__":
    sys.exit(main())
