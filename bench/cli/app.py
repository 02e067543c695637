"""Every verb with its options, and the module that does it. What stands here is read to complete a word: click only."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from bench.cli import complete
from bench.cli.group import Duration, Label, Rate, Verbs, first_page, version
from bench.names import ENGINES

PATH = click.Path(path_type=Path)
app = Verbs(
    name="bench",
    invoke_without_command=True,
    subcommand_metavar="VERB [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="ScaleNorm Bench: train variants of residual networks with differential privacy, over seeds and epsilons, and "
    "report what the differences are worth. Start with `check`, then `run`. Files are read and written relative to the "
    "working directory.",
    params=[
        click.Option(["--config"], type=PATH, default=Path("config.yaml"), show_default=True),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, _, asked: asked and _say_version(ctx),
            help="Print the version and exit.",
        ),
    ],
)


@click.pass_context
def _alone(ctx: click.Context, config: Path) -> None:
    if ctx.invoked_subcommand is None:
        first_page(ctx)


app.callback = _alone


def _say_version(ctx: click.Context) -> None:
    click.echo(f"scalenorm-bench {version()}")
    ctx.exit()


class BeforeDashes(click.Command):
    """A verb that leaves what stands behind `--` to its option `more`, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, more = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        rest = super().parse_args(ctx, own)
        ctx.params["more"] = more
        return rest


def verb(
    section: str,
    name: str,
    text: str,
    *params: click.Parameter,
    short: str | None = None,
    does: str | None = None,
    refuse: Callable[[dict], str | None] = lambda options: None,
    kind: type[click.Command] = click.Command,
) -> None:
    """A verb that calls `does`, a function below bench, with the configuration's path and its options.

    By default it is the function of bench.commands.runs with the verb's name. What `refuse` says of the options is wrong
    usage.
    """
    module, _, function = (does or f"commands.runs.{name}").rpartition(".")

    def call(**options):
        if problem := refuse(options):
            raise click.UsageError(problem, click.get_current_context())
        config = click.get_current_context().find_root().params["config"]
        return getattr(import_module(f"bench.{module}"), function)(config, **options)

    app.add(section, kind(name, callback=call, help=text, short_help=short, params=list(params)))


def option(*names: str, **settings) -> click.Option:
    return click.Option(list(names), **settings)


def argument(name: str, **settings) -> click.Argument:
    return click.Argument([name], **settings)


NETWORK = (
    argument("arch", shell_complete=complete.archs),
    argument("variant", shell_complete=complete.variants),
    option(
        "--dataset",
        default="cifar10",
        show_default=True,
        help="Decides input channels and size.",
        shell_complete=complete.datasets,
    ),
)

verb(
    "Everyday",
    "run",
    "Train what is missing of the studies, then write tables and report; a second time it does nothing.\n\n"
    "TARGET is a study, or `partial` (tables and report from what exists), `reference`, `verify`, `audit` or `speed`; "
    "without one, all studies that this machine can run. Behind `--` stand options of Snakemake, which does the work: "
    "`run quick -- --retries 20`, `run -- --dry-run`, `run -- --unlock`. What Snakemake says goes to "
    "results/logs/snakemake.log.\n\n"
    "Ctrl-C and SIGTERM let the runs save their state and end with exit code 130 and 75; the same command then goes on.",
    argument(
        "targets", nargs=-1, metavar="[TARGET ...] [-- OPTION ...]", type=click.UNPROCESSED, shell_complete=complete.studies
    ),
    option("--cores", default="all", show_default=True, metavar="N", help="CPU cores to use; a run uses `machine.threads`."),
    option("--config", "settings", multiple=True, metavar="studies=A,B", help="These studies, and one report of them all."),
    short="Train what is missing, then write tables and report.",
    does="cli.run.run",
    kind=BeforeDashes,
)
verb(
    "Everyday",
    "status",
    "Show where the studies stand: what is finished, running, failed and waiting, and about how long the rest takes, from "
    "the records and from what runs write while they train.\n\n"
    "--json prints an object with `studies` (a list: study, total, done, diverged, running, failed, waiting, seconds_left), "
    "`all` (the same without study, each run counted once), `running` (a list: run, step, steps, epsilon, accuracy, "
    "seconds, seconds_left, host, pid, updated), `failed` (run, reason, log) and `stopped` (run, step, steps, reason; they "
    "count as waiting). Diverged runs are done. What is unknown is null.",
    option("--study", help="Only this study.", shell_complete=complete.studies),
    option("--watch", is_flag=True, help="Draw it again every second, until Ctrl-C."),
    option("--json", "as_json", is_flag=True, help="Everything as JSON."),
    short="Show what is finished, running, failed and waiting.",
    does="cli.status.status",
    refuse=lambda options: "--watch and --json do not go together" if options["watch"] and options["as_json"] else None,
)
verb(
    "Everyday",
    "check",
    "Validate the configuration; list studies, their runs, what can run here and about how long it takes.",
    short="Validate the configuration; estimate the time it takes.",
)
verb(
    "Everyday",
    "show",
    "Show all about one thing, in words, with the command that makes it again.\n\n"
    "Of a run (an id that `runs` prints): what is trained, its record and its pair, the same seed of the baseline. Of a "
    "claim: its rule, the pairs so far and the verdict. Of a study: its question and its arms. What is not finished here is "
    "looked up in the committed reference.",
    argument("name", metavar="RUN|CLAIM|STUDY", shell_complete=complete.shown),
    short="Show a run, a claim or a study in words.",
    does="cli.show.show",
)
verb(
    "Everyday",
    "open",
    "Open the report in a browser: report/report.html or, where there is none, the committed report/reference.html.",
    option("--print", "only_print", is_flag=True, help="Print the path, and open nothing."),
    short="Open the report in a browser.",
    does="commands.results.open_report",
)
verb(
    "Everyday",
    "train",
    "Train one run and write its record; exit code 0 also when it diverged, which the record states.\n\n"
    "RUN is an id that `runs` prints.",
    argument("run", required=False, metavar="[RUN]", shell_complete=complete.runs),
    option(
        "--study",
        help="Every run of it that is missing, seed by seed; several processes share the work.",
        shell_complete=complete.studies,
    ),
    option("--run-json", metavar="JSON", help="The specification itself, as a record holds it under `run`."),
    option("--epsilon", type=float, help="With --study: only its runs at this epsilon."),
    option("--noise", type=PATH, help="What `calibrate` wrote (default: calibrate now)."),
    option("--out", type=PATH, help="Default: the run's path under results/runs."),
    option(
        "--stop-after",
        type=Duration(),
        metavar="TIME",
        help="90s, 8m30s or 1.5h after the start: save a checkpoint, end with exit code 75; the same command then goes on.",
    ),
    short="Train one run, or a study's missing ones, without Snakemake.",
    refuse=lambda options: (
        None
        if sum(options[name] is not None for name in ("run", "study", "run_json")) == 1
        else "name one thing to train: RUN, --study or --run-json"
    ),
)
verb(
    "Look up",
    "runs",
    "Print one run a line: its id and the path of its record.",
    option("--study", help="Only this study.", shell_complete=complete.studies),
)
verb(
    "Look up",
    "describe",
    "Print a network: its residual blocks, filled sites, layers and parameter count.\n\n"
    "ARCH is resnet9, say, and VARIANT scalenorm.",
    *NETWORK,
    short="Print a network: blocks, filled sites, layers, parameters.",
)
verb(
    "Look up",
    "admit",
    "Test that a network may train privately, as every private run does before its first step: its layers are what the "
    "engine assumes, no sample's output depends on another sample, and the engine's clipped gradient sum is autograd's.\n\n"
    "Exit code 1 and the layer's name where it may not.",
    *NETWORK,
    short="Test that a network may train privately.",
)
verb(
    "Look up",
    "epsilon",
    "Print what a training run spends: epsilon by RDP and PLD accounting, mu of Gaussian DP, and what a membership test "
    "detects at most.",
    option("--noise-multiplier", type=float, required=True, metavar="S", help="Noise std over clip norm; 0 is no noise."),
    option("--sample-rate", type=Rate(), required=True, metavar="Q", help="A number or a fraction like 1/49."),
    option("--steps", type=int, required=True, metavar="T", help="Optimiser steps, empty batches included."),
    option("--delta", type=float, required=True, metavar="D", help="E.g. 1e-5."),
    short="Print the epsilon that a training run spends.",
)
verb(
    "Steps of the pipeline",
    "dataset",
    "Read, check and cache a dataset; write its description (sizes, digest) as JSON.\n\n"
    "NAME is a dataset of the configuration.",
    argument("name", shell_complete=complete.datasets),
    option("--out", type=PATH, help="Default: print."),
    short="Read, check and cache a dataset; describe it as JSON.",
)
verb(
    "Steps of the pipeline",
    "calibrate",
    "Find the noise multiplier of a recipe at an epsilon; write it as JSON.\n\n"
    "RECIPE is one of the configuration, EPSILON 8, say, or inf.",
    argument("recipe", shell_complete=complete.recipes),
    argument("epsilon", type=float),
    option("--out", type=PATH, help="Default: print."),
    short="Find the noise multiplier of a recipe at an epsilon.",
)
verb(
    "Steps of the pipeline",
    "summarise",
    "Write results/runs.csv, summary.csv, claims.csv and not_run.csv from the records that exist.",
    short="Write the tables from the records that exist.",
    does="commands.results.summarise",
)
verb(
    "Steps of the pipeline",
    "report",
    "Write the report from the tables and records.",
    option("--out", type=PATH, default=Path("report/report.html"), show_default=True),
    does="commands.results.report",
)
verb(
    "Look up",
    "audit",
    "Does the code keep what its records claim? A small network is trained with 2,000 canaries, a coin deciding each, and "
    "what the steps release is tested: noise, clipped sums, batches, epsilon. Prints what is claimed and what was seen, and "
    "writes it as a table; exit code 1 if a claim is refused. Of a hundred honest games, at most one alarms.",
    option("--seeds", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Games of each engine."),
    option(
        "--sabotage",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        metavar="N",
        help="Games of each engine under each sabotage, which must alarm.",
    ),
    option("--engine", type=click.Choice([*ENGINES]), help="Only this one."),
    option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="What trains."),
    option("--cores", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Games at a time."),
    option("--out", type=PATH, default=Path("results/audit.csv"), show_default=True),
    short="Does the code keep what its records claim?",
    does="audit.command.run",
)
verb(
    "Results",
    "promote",
    "Take finished runs into results/reference; refuses those of uncommitted sources.",
    option(
        "--study",
        multiple=True,
        metavar="NAME ...",
        help="Their finished runs; one name or several.",
        shell_complete=complete.studies,
    ),
    argument("more", nargs=-1, metavar="", shell_complete=complete.studies),
    option("--speed", is_flag=True, help="The speed table results/speed.csv."),
    short="Take finished runs into results/reference.",
    refuse=lambda options: (
        None if options["study"] or options["speed"] else "name what to take: --study NAME, --speed or both"
    ),
    does="commands.results.promote",
)
verb(
    "Results",
    "restore",
    "Put a study's committed records back under results/runs: with more seeds or after a half-committed study, only what is "
    "missing trains.",
    argument("study", shell_complete=complete.studies),
    short="Put committed records back, so that a study goes on.",
    does="commands.results.restore",
)
verb(
    "Results",
    "provenance",
    "Print commit, uncommitted changes and digest of the sources as JSON. As provenance.json in a copy without .git, it lets "
    "the runs that are made there name their commit, as long as the sources there have that digest.",
    short="Print what a copy without .git must know of its commit.",
)
verb(
    "Results",
    "reference",
    "Make the tables under results/reference, report/reference.html and the tables in README.md and results/README.md again "
    "from the committed records, training nothing.",
    short="Make the committed tables and report again.",
    does="commands.results.reference",
)
verb(
    "Results",
    "export",
    "Write finished runs as a Workflow Run RO-Crate: a folder with records, tables, configuration and workflow, and a file "
    "that describes them. The same runs make the same crate.",
    option(
        "--study", multiple=True, metavar="NAME", help="Only this study's; may be repeated.", shell_complete=complete.studies
    ),
    option("--reference", is_flag=True, help="The committed runs instead of those here."),
    option("--author", metavar="NAME", help="Who made the runs; left out where it is not told."),
    option("--validate", is_flag=True, help="Then ask rocrate-validator; exit code 1 where it objects."),
    option("--out", type=PATH, default=Path("results/export"), show_default=True),
    short="Write finished runs as a crate that others can read.",
    does="exchange.command.export",
)
verb(
    "Results",
    "import",
    "Take in records of others, a crate of `export` or its records.jsonl: checked as `promote` checks ours, kept under a "
    "label in results/imported, shown beside ours in the report and compared. No mean and no claim counts them.",
    argument("path", type=PATH),
    option("--label", type=Label(), required=True, metavar="NAME", help="What the report calls them."),
    short="Take in records of others, to be shown beside ours.",
    does="exchange.command.take_in",
)
verb(
    "Results",
    "compare",
    "Do two tables of runs agree within seed noise? Prints what differs; exit code 1 if anything does. Of a hundred pairs of "
    "tables that agree, at most one is said to differ.\n\nFIRST is results/runs.csv, say, and SECOND "
    "results/reference/runs.csv.",
    argument("first", type=PATH),
    argument("second", type=PATH),
    option("--study", metavar="NAME", help="Only the arms of this study.", shell_complete=complete.studies),
    short="Do two tables of runs agree within seed noise?",
    does="commands.results.compare",
)
