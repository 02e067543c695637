"""The command line: its verbs and their help, exit codes, suggestions, completion; status, show, open and check."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from bench import ROOT, BenchError, machine
from bench.__main__ import main
from bench.cli import complete, group
from bench.cli.app import app
from bench.evidence import live, records
from bench.plan import resolve
from tests.factory import record_of
from tests.terminals import in_terminal

OLD_VERBS = {"check", "runs", "describe", "epsilon", "dataset", "calibrate", "train", "summarise", "report"}
OLD_VERBS |= {"promote", "reference", "compare"}


@pytest.fixture
def folder(shipped, tmp_path, monkeypatch):
    """A folder with the shipped configuration and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("config.yaml").write_text(yaml.safe_dump(shipped, sort_keys=False))
    return tmp_path


@pytest.fixture
def studies(shipped, folder):
    return resolve.studies_of(shipped)


def finish(runs, accuracy=90.0) -> None:
    for run in runs:
        records.write(record_of(run, accuracy), run.path)


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


# -- the verbs -----------------------------------------------------------------------------------------------------------


def test_alone_it_prints_what_a_newcomer_needs(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("  ")] == list(group.NEWCOMERS)
    assert "--help" in printed
    assert "promote" not in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith(("First", "All"))) <= 80


def test_help_lists_every_verb_in_its_section(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z]+)  +[A-Z]", printed, re.M)
    assert set(listed) == set(app.commands) >= OLD_VERBS | {"run", "status", "show", "open"}
    assert len(listed) == len(set(listed))
    assert [printed.index(f"\n{section}:") for section in group.SECTIONS] == sorted(
        printed.index(f"\n{section}:") for section in group.SECTIONS
    )
    for code in ("0 done", "1 refused or failed", "2 wrong usage", "75 stopped", "130 Ctrl-C"):
        assert code in " ".join(printed.split())
    assert 'eval "$(_BENCH_COMPLETE=bash_source bench)"' in printed


@pytest.mark.parametrize("verb", sorted(app.commands))
def test_every_verb_explains_itself(verb, capsys):
    assert main([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"python -m bench {verb}" in printed
    assert app.commands[verb].short_help is None or len(app.commands[verb].short_help) <= 70


def test_the_name_in_a_usage_line_is_the_one_that_was_called(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/bench"])
    main(["status", "--help"])
    assert capsys.readouterr().out.startswith("Usage: bench status ")


def test_version(capsys):
    assert main(["--version"]) == 0
    pinned = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert capsys.readouterr().out == f"scalenorm-bench {pinned}\n"


def test_the_entry_point_is_main():
    import tomllib

    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["bench"].partition(":")
    assert getattr(sys.modules[module], name) is main


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["staus"], "unknown verb 'staus' (did you mean 'status'?)"),
        (["status", "--wach"], "unknown option '--wach' (did you mean '--watch'?)"),
        (["--confg", "x", "status"], "unknown option '--confg' (did you mean '--config'?)"),
        (["train"], "name one thing to train: RUN, --study or --run-json"),
        (["train", "a/b/c", "--study", "quick"], "name one thing to train: RUN, --study or --run-json"),
        (["promote"], "name what to take: --study NAME, --speed or both"),
        (["status", "--watch", "--json"], "--watch and --json do not go together"),
        (["describe", "resnet9"], "Missing argument 'VARIANT'"),
        (["epsilon", "--sample-rate", "1/0"], "'1/0' is not a rate; write a number or a fraction like 1/49"),
    ],
)
def test_wrong_usage_gets_a_sentence_and_code_2(arguments, expected, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert "--help` says what there is" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "--study", "quik"], "unknown study 'quik' (did you mean 'quick'?)"),
        (["runs", "--study", "quik"], "unknown study 'quik' (did you mean 'quick'?)"),
        (["run", "pockt"], "unknown target 'pockt' (did you mean 'pocket'?)"),
        (["run", "partal"], "unknown target 'partal' (did you mean 'partial'?)"),
        (["run", "--config", "studies=quick,pockt"], "unknown study 'pockt' (did you mean 'pocket'?)"),
        (["run", "--", "--config", "studies=pockt"], "unknown study 'pockt' (did you mean 'pocket'?)"),
        (["run", "--config", "seeds=3"], "--config seeds=3: only studies=NAME,NAME"),
        (["describe", "resnet9", "scalnorm"], "unknown variant 'scalnorm' (did you mean 'scalenorm'?)"),
        (["describe", "resnet8", "scalenorm"], "unknown arch 'resnet8' (did you mean 'resnet9'?)"),
        (["calibrate", "digts", "8"], "unknown recipe 'digts' (did you mean 'digits'?)"),
        (["dataset", "digts"], "unknown dataset 'digts' (did you mean 'digits'?)"),
        (["train", "digits/resnet9-w8/scalenrm/eps8/seed0"], "did you mean 'digits/resnet9-w8/scalenorm/eps8/seed0'?"),
        (["show", "digits-gain-at-eps"], "did you mean 'digits-gain-at-eps1'?"),
        (["show", "digits/resnet9-w8/scalenrm/eps8/seed0"], "did you mean 'digits/resnet9-w8/scalenorm/eps8/seed0'?"),
        (["--config", "other.yaml", "status"], "other.yaml: no such file"),
        (["--config", "other.yaml", "run"], "--config other.yaml: the pipeline reads config.yaml"),
    ],
)
def test_a_refusal_suggests_and_has_code_1(arguments, expected, folder, capsys):
    assert main(arguments) == 1
    assert expected in capsys.readouterr().err


def test_times_of_the_command_line(capsys):
    assert [group.duration(text) for text in ("90s", "9m", "1.5h", "510s")] == [90, 540, 5400, 510]
    assert [group.duration(text) for text in ("8m30s", "1h30m", "1h0m1.5s", "0s")] == [510, 5400, 3601.5, 0]
    for text in ("", "9", "m", "9x", "1:30", "30s8m", "8m 30s", "-5s", "infs", "8m30"):
        with pytest.raises(SystemExit):
            main(["train", "--study", "quick", f"--stop-after={text}"])
        assert f"{text!r} is not a time; write 90s, 9m, 1.5h or 8m30s" in capsys.readouterr().err


def test_options_reach_what_a_verb_does(monkeypatch):
    """Those of the verbs that the pipeline calls, and those that have a form of their own."""
    calls = []
    for place in ("runs.train", "runs.epsilon", "results.promote", "results.compare"):
        name = place.partition(".")[2]
        told = lambda config, name=name, **options: calls.append((name, options))  # noqa: E731
        monkeypatch.setattr(f"bench.commands.{place}", told)
    assert main(["train", "--run-json", "{}", "--noise", "n.json", "--out", "o.json"]) == 0
    assert main(["train", "--study", "quick", "--epsilon", "inf", "--stop-after", "1.5h"]) == 0
    assert main(["promote", "--study", "quick", "pocket", "--speed"]) == 0
    assert main(["epsilon", "--noise-multiplier", "1.7", "--sample-rate", "1/49", "--steps", "9", "--delta", "1e-5"]) == 0
    nothing = dict.fromkeys(("run", "study", "run_json", "epsilon", "noise", "out", "stop_after"))
    assert calls == [
        ("train", nothing | {"run_json": "{}", "noise": Path("n.json"), "out": Path("o.json")}),
        ("train", nothing | {"study": "quick", "epsilon": float("inf"), "stop_after": 5400.0}),
        ("promote", {"study": ("quick",), "more": ("pocket",), "speed": True}),
        ("epsilon", {"noise_multiplier": 1.7, "sample_rate": 1 / 49, "steps": 9, "delta": 1e-5}),
    ]


@pytest.mark.parametrize(
    ("raised", "code"),
    [(BenchError("no"), 1), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0)],
)
def test_exit_codes(raised, code, folder, monkeypatch, capfd):
    def refuse(*arguments, **options):
        raise raised

    monkeypatch.setattr("bench.commands.runs.runs", refuse)
    monkeypatch.setattr(os, "dup2", lambda *numbers: None)
    assert main(["runs"]) == code


def test_a_reader_that_has_seen_enough_is_no_error(folder):
    command = f"{sys.executable} -m bench runs | head -1; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_command_line_is_cheap():
    code = "import sys, bench.__main__, bench.cli.app; print([name for name in sys.argv[1:] if name in sys.modules])"
    assert python("-c", code, "click", "torch", "pandas", "numpy", "yaml", "jsonschema", "rich").stdout == "['click']\n"


# -- completion ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bench sta", ["status"]),
        ("bench run qui", ["quick", "quick-again"]),
        ("bench status --study poc", ["pocket-pilot", "pocket", "pocket-placements", "pocket-wide", "pocket-double-rate"]),
        ("bench describe resnet9-", ["resnet9-w16", "resnet9-w8"]),
        ("bench describe resnet9 scalenorm-", ["scalenorm-layer", "scalenorm-groups-8", "scalenorm-none"]),
        ("bench show headline", ["headline", "headline-bf16", "headline-wrn40"]),
        ("bench show de-wrn/wrn16-4/baseline/eps8/seed", [f"de-wrn/wrn16-4/baseline/eps8/seed{n}" for n in range(5)]),
        ("bench train --stu", ["--study"]),
    ],
)
def test_a_shell_completes(words, expected, folder, monkeypatch, capsys):
    monkeypatch.setenv("_BENCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()] == expected


def test_completion_without_a_configuration_is_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with app.make_context("bench", []) as context:
        parameter = click.Argument(["x"])
        assert complete.studies(context, parameter, "") == []
        assert complete.shown(context, parameter, "digits/") == []


# -- status --------------------------------------------------------------------------------------------------------------


def test_status_needs_neither_torch_nor_pandas_nor_rich(folder):
    code = (
        "import sys; from bench.__main__ import main; code = main(['status']); "
        "print([name for name in ('torch', 'pandas', 'numpy', 'rich') if name in sys.modules], code)"
    )
    assert python("-c", code).stdout.endswith("[] 0\n")


@pytest.mark.parametrize("width", [80, 60])
def test_status_fits_the_terminal_and_is_plain_in_a_file(width, studies, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    runs = [*studies["orders"].runs[:3], *studies["quick"].runs[:3]]
    finish(studies["quick"].runs[5:9])
    for run in runs:
        live.write(run, "running", step=1999, steps=2468, epsilon=7.991, accuracy=81.25, seconds=8.0, seconds_left=5000.0)
    live.write(studies["orders"].runs[9], "failed", reason="one reason " * 20 + "machine.physical_batch")
    stopped = studies["quick"].runs[20]
    live.write(stopped, "stopped", reason="stopped after step 94 of 400; the same command goes on from there")
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert not re.search(r"\033|[━─│┃]", "\n".join(lines))
    quick = dict(zip(lines[0].split(), next(line for line in lines if line.startswith("quick ")).split(), strict=False))
    expected = {"study": "quick", "done": "4", "running": "3", "failed": "0", "waiting": "121", "total": "128"}
    assert {name: value for name, value in quick.items() if name != "left"} == {
        name: value for name, value in expected.items() if width == 80 or name != "waiting"
    }
    running = [line for line in lines if "1999/2468" in line]
    assert len(running) == 6
    assert all(fact in running[0] for fact in ("7.99", "81.25", "83 min", "seed0"))
    assert "machine.physical_batch" in "".join(lines)  # reasons are told to their end
    assert lines[-1] == f"{stopped.id}  stopped after step 94 of 400"[:width]
    assert {"1 failed", "1 stopped; the same command goes on"} <= set(lines)


def test_status_as_json_has_the_keys_that_its_help_names(studies, capsys):
    finish(studies["quick"].runs[:2])
    live.write(studies["quick"].runs[2], "running", epsilon=float("inf"), step=3)
    live.write(studies["quick"].runs[3], "failed", reason="no")
    live.write(studies["quick"].runs[4], "stopped", step=3, steps=80)
    assert main(["status", "--json", "--study", "quick"]) == 0
    state = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [row["study"] for row in state["studies"]] == ["quick"]
    main(["status", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    keys = {*state, *(key for value in state.values() if isinstance(value, list) for row in value for key in row)}
    assert {"studies", "all", "running", "failed", "stopped", "seconds_left", "epsilon", "reason", "log"} <= keys
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}\b", told)] == []
    assert set(state["all"]) == set(state["studies"][0]) - {"study"}


def test_status_of_an_empty_folder_says_what_to_do(folder, capsys):
    assert main(["status"]) == 0
    assert "bench run` trains" in capsys.readouterr().out


def test_status_can_be_watched_until_ctrl_c(studies):
    finish(studies["quick"].runs[:4])
    live.write(studies["quick"].runs[5], "running", step=40, steps=80, epsilon=5.3, accuracy=91.0, seconds_left=7.0)
    seen, code = in_terminal(["status", "--watch"], "Ctrl-C leaves", b"\x03")
    assert code == 0
    assert "Traceback" not in seen
    assert "━━━━━" in seen
    seen = re.sub(r"\033\[[\d;]*[ABH]|\033\[\?1049l", "\n", seen)  # the cursor goes elsewhere; the screen is given back
    screens = re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", seen).replace("\r", "\n").replace("^C", "").splitlines()
    assert [line for line in screens if len(line.strip()) > 80] == []  # blanks before a line: a frame that Ctrl-C cut
    assert any(line.startswith("quick") and line.split()[1:3] == ["4", "1"] for line in screens)


# -- show, open, check ---------------------------------------------------------------------------------------------------


def test_show_a_run_with_its_pair(studies, capsys):
    run = next(run for run in studies["quick"].runs if run.id == "digits/resnet9-w8/scalenorm/eps8/seed1")
    twin = next(run for run in studies["quick"].runs if run.id == "digits/resnet9-w8/baseline/eps8/seed1")
    finish([run], 92.5)
    finish([twin], 90.0)
    assert main(["show", str(run.path)]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    for fact in (
        "resnet9: width 8",
        "group norm of 4 groups behind the sum",
        "80 steps of 192 samples",
        "epsilon 8 at delta 0.0001",
        "record from results/runs",
        "92.50 %",
        "8 by RDP, 8 by PLD",
        "10 s",
        "Test CPU",
        "commit 000000000000",
        "baseline with seed 1: 90.00 %; this run differs by +2.50 points",
        f"bench train {run.id}",
    ):
        assert fact in words
    assert max(len(line) for line in printed.splitlines() if "bench train" not in line) <= 80


def test_show_a_run_that_has_not_finished(studies, capsys):
    run = studies["claim"].runs[0]
    live.write(run, "failed", step=7, steps=80, reason="out of memory")
    assert main(["show", run.id]) == 0
    assert "none yet; failed at step 7 of 80: out of memory" in " ".join(capsys.readouterr().out.split())


def test_show_a_claim(studies, capsys):
    for run in studies["quick-again"].runs:
        if run.seed in (8, 9, 10):
            finish([run], 80.0 + run.seed + 2 * (run.variant == "scalenorm") * (run.seed != 9))
    assert main(["show", "digits-gain-at-eps1"]) == 0
    printed = capsys.readouterr().out
    assert "records from   results/runs" in printed
    assert (
        "not resolved: 3 of 12 pairs have finished; it is decided when all have; difference +1.33 points over 3 pairs"
        in " ".join(printed.split())
    )
    assert re.search(r"^9 +89.00 +89.00 +\+0.00$", printed, re.M)
    assert re.search(r"^10 +92.00 +90.00 +\+2.00$", printed, re.M)
    assert "bench run quick-again" in printed


def test_show_a_study(studies, capsys):
    arm = [run for run in studies["quick"].runs if (run.variant, run.epsilon) == ("scalenorm", 8)]
    finish(arm[:1], 90.0)
    finish(arm[1:2], 92.0)
    records.write(record_of(arm[2], None, "diverged"), arm[2].path)
    assert main(["show", "quick"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^digits/resnet9-w8/scalenorm/eps8 +2 of 8 \(1 diverged\) +91.00 +1.41 +10 s$", printed, re.M)
    assert re.search(r"^digits/resnet9-w8/baseline/eps8 +0 of 8 +- +- +-$", printed, re.M)
    assert "bench run quick" in printed


def test_show_falls_back_to_the_committed_reference_and_says_so(folder, capsys):
    committed = records.read_lines(ROOT / "results/reference/records.jsonl")
    record = next(item for item in committed if item["run"]["id"] == "digits/resnet9-w8/scalenorm/eps8/seed0")
    assert main(["show", record["run"]["id"]]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "the committed reference, results/reference/records.jsonl; nothing of it has finished here" in words
    assert f"{record['result']['accuracy']:.2f} %" in words


def test_open(folder, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) < 2)
    monkeypatch.setattr("bench.commands.results.ROOT", folder)
    assert main(["open"]) == 1
    assert "report/report.html: no such file; `" in capsys.readouterr().err
    Path("report").mkdir()
    Path("report/reference.html").touch()
    assert main(["open", "--print"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{folder / 'report/reference.html'}\n"
    assert "of the committed results" in printed.err
    assert opened == []
    Path("report/report.html").touch()
    assert main(["open"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{folder / 'report/report.html'}\n", "")
    assert opened == [(folder / "report/report.html").as_uri()]
    assert main(["open"]) == 0
    assert "no browser could be started" in capsys.readouterr().err


def test_check_refuses_before_it_estimates(folder, studies, monkeypatch, capsys):
    monkeypatch.setattr("bench.training.estimate.probe", lambda *arguments: pytest.fail("steps were timed"))
    damaged = studies["large"].runs[0].path
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    assert main(["check"]) == 1
    printed = capsys.readouterr()
    assert f"{damaged}: damaged record" in printed.err
    assert printed.out == ""


SPEED = """device,threads,arch,variant,width,physical_batch,views,precision,engine,img_per_s,ratio_to_nonprivate,peak_mb
A CPU,2,resnet9,baseline,64,64,1,float32,fast,100,1,1
A GPU,2,resnet9,baseline,64,64,1,float32,fast,5000,1,1
A GPU,2,resnet9,baseline,64,512,1,float32,fast,10000,1,1
A GPU,2,resnet9,baseline,64,512,1,bf16,fast,40000,1,1
A GPU,2,resnet9,baseline,64,512,1,float32,not-private,20000,1,1
Another GPU,2,wrn16-4,baseline,4,32,1,bf16,fast,1000,1,1
"""


def test_check_estimates_records_steps_and_gpus(folder, studies, monkeypatch, capsys):
    """Seconds of quick from its records, of pocket from timed steps, of GPU studies from the committed speed table."""
    finish(studies["quick"].runs[:-4])  # 10 s a run
    timed = []
    monkeypatch.setattr(
        "bench.training.estimate.probe", lambda run, machine: timed.append((run.recipe_name, run.arch)) or 1024.0
    )
    gib = {"resnet9": (6.14, 0.07), "wrn40-4": (763, 0.44)}
    needed = lambda run, measured: tuple(size * 2**30 for size in gib.get(run.arch, (20, 0.1)))  # noqa: E731
    monkeypatch.setattr("bench.training.memory.needed", needed)
    monkeypatch.setattr("bench.machine.uses_gpu", lambda machine: False)
    monkeypatch.setattr("bench.commands.runs.ROOT", folder)
    Path("results/reference").mkdir()
    Path("results/reference/speed.csv").write_text(SPEED)
    assert main(["check"]) == 0
    printed = capsys.readouterr().out
    about = {line.split()[0]: re.split(r" {2,}", line)[4] for line in printed.splitlines()[1:] if line.count("  ") > 3}
    assert about["quick"] == "40 s"
    assert about["pocket"] == f"{256 * 256 * 384 / 1024 / 3600:.1f} h"
    claim = 96 * 1024 * 2441 / 10000 + 32 * 1024 * 2441 / 20000
    assert about["claim"] == f"{claim / 3600:.1f} h on a GPU"
    assert about["headline"] == "unknown without a GPU"
    assert about["quick-again"] == "4 min"  # from quick's records, which are of its kind
    assert timed == [("digits-320", "resnet9-w8"), ("pocket", "resnet9-w8"), ("pocket-wide", "resnet9-w16")]  # once a network
    memory = {line.split()[0]: re.split(r" {2,}", line)[5] for line in printed.splitlines() if "needs a GPU" in line}
    assert (memory["claim"], memory["headline"]) == ("6.1 GiB", "763 GiB")
    assert "quick" not in memory
    assert "one with less takes smaller batches, with 0.4 GiB sample by sample." in printed
    assert "timed on A GPU." in printed
    assert "\033" not in printed


@pytest.mark.skipif(machine.has_cuda(), reason="times steps of every study")
def test_check_fits_a_terminal(studies):
    for study in studies.values():
        if study.name != "claim":  # what is missing is timed and measured
            finish(study.runs)
    for columns, question in ((80, False), (120, True)):
        seen, code = in_terminal(["check"], columns=columns)
        lines = [line.rpartition("\033[K")[2].strip("\r") for line in seen.split("\n")]  # each as it stays
        assert code == 0
        assert max(map(len, lines)) <= columns
        assert any("Does everything work" in line for line in lines) is question
        assert any("needs a GPU" in line and " GiB" in line for line in lines)
