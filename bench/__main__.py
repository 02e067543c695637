"""`bench <verb>`, `python -m bench <verb>`: every step of the pipeline, files in, files out, with or without Snakemake."""

import locale
import os
import sys
from pathlib import Path

import click

from bench import BenchError, files, warm

WRONG_USAGE, INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> int:
    """The exit code of the verb in `arguments` (default: of the process); SystemExit with 2 where they are wrong."""
    if arguments is None:
        _read_and_write_utf8()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == [warm.SERVE]:
        return warm.serve(*arguments[1:], main)
    if (code := warm.ask(arguments)) is not None:
        return code

    from bench.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without an ellipsis gets a question mark, not a traceback
            stream.reconfigure(errors="replace")
    if "_BENCH_COMPLETE" in os.environ:
        app.main(arguments, prog_name="bench", complete_var="_BENCH_COMPLETE")
    name = "bench" if Path(sys.argv[0]).name == "bench" else "python -m bench"
    try:
        with app.make_context(name, [*arguments]) as context:
            return app.invoke(context) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        from bench.cli.group import sentence, way_out

        print(f"{sentence(error)}\n{way_out(error)}", file=sys.stderr)
        raise SystemExit(WRONG_USAGE) from None
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if not (told := files.sentence(error)):
            raise
        print(told, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left", file=sys.stderr)
        return INTERRUPTED


def _read_and_write_utf8() -> None:
    """Starts this process anew where a locale would have its files in another encoding; the terminal keeps the locale's."""
    encoding = locale.getencoding()
    if not sys.flags.utf8_mode and encoding.lower().replace("-", "") != "utf8":
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{encoding}:replace"}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
