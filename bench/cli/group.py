"""The group of verbs: help by sections, a first page for newcomers, suggestions for what is mistyped."""

import re

import click

from bench import ROOT, BenchError
from bench.terminal import command

NEWCOMERS = ("run", "status", "check", "show", "open", "train")
SECTIONS = ("Everyday", "Look up", "Steps of the pipeline", "Results")

CODES = """Exit codes: 0 done; 1 refused or failed, and a sentence on stderr says why; 2 wrong usage; 75 stopped, to be
continued by the same command; 130 Ctrl-C."""
COMPLETION = 'eval "$(_BENCH_COMPLETE=bash_source bench)"'


class Verbs(click.Group):
    """A click group whose verbs belong to sections."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.sections: dict[str, list[str]] = {section: [] for section in SECTIONS}

    def add(self, section: str, verb: click.Command) -> None:
        self.sections[section].append(verb.name)
        self.add_command(verb)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(name, _first_words(self.commands[name])) for name in names])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text(f"`{ctx.command_path} VERB --help` tells all of a verb. {CODES}")
        formatter.write_paragraph()
        formatter.write_text("Completion of verbs, studies, claims, runs, variants and archs in bash (zsh_source in zsh):")
        formatter.write_paragraph()
        formatter.write(f"  {COMPLETION}\n")


def first_page(ctx: click.Context) -> None:
    """What `bench` alone prints: the few verbs that a newcomer needs, a line each."""
    formatter = ctx.make_formatter()
    formatter.write("Trains network variants with differential privacy and reports how they differ.\n\n")
    with formatter.indentation():
        formatter.write_dl([(name, _first_words(ctx.command.commands[name])) for name in NEWCOMERS])
    formatter.write(f"\nFirst:      {command('check')}\nAll verbs:  {command('--help')}\n")
    click.echo(formatter.getvalue(), nl=False)


def sentence(error: click.UsageError) -> str:
    """What is wrong with the command line, as every refusal of the bench is worded."""
    from bench.plan.config import did_you_mean

    if isinstance(error, click.exceptions.NoSuchCommand):
        return f"unknown verb {error.command_name!r}{did_you_mean(error.command_name, error.ctx.command.commands)}"
    if isinstance(error, click.NoSuchOption) and error.ctx:
        known = [name for parameter in error.ctx.command.get_params(error.ctx) for name in parameter.opts if name[0] == "-"]
        return f"unknown option {error.option_name!r}{did_you_mean(error.option_name, known)}"
    return error.format_message()


def way_out(error: click.UsageError) -> str:
    verbs = error.ctx.command_path.removeprefix(error.ctx.find_root().command_path).split() if error.ctx else []
    return f"`{command(*verbs, '--help')}` says what there is"


def version() -> str:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def _first_words(verb: click.Command) -> str:
    return verb.short_help or verb.get_short_help_str(200)


class Duration(click.ParamType):
    """Seconds of '90s', '8m30s' or '1.5h'."""

    name = "time"

    def convert(self, value, param, ctx) -> float:
        try:
            return duration(value)
        except BenchError as error:
            self.fail(str(error), param, ctx)


class Label(click.ParamType):
    """A name that becomes a file's."""

    name = "label"

    def convert(self, value, param, ctx) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", value):
            self.fail(f"{value!r} is no label; write small letters, digits and '-'", param, ctx)
        return value


class Rate(click.ParamType):
    """A number or a fraction like 1/49."""

    name = "rate"

    def convert(self, value, param, ctx) -> float:
        from fractions import Fraction

        try:
            return float(Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} is not a rate; write a number or a fraction like 1/49", param, ctx)


def duration(text: str) -> float:
    """Seconds of '90s', '8m30s', '1.5h' or '1h30m'; BenchError for anything else."""
    number = r"(\d+(?:\.\d+)?)"
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", text)
    if not text or not found:
        raise BenchError(f"{text!r} is not a time; write 90s, 9m, 1.5h or 8m30s")
    return sum(float(part or 0) * seconds for part, seconds in zip(found.groups(), (3600, 60, 1), strict=True))
