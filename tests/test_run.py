"""`bench run` against a stand-in for Snakemake, and once for real."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from bench import BenchError
from bench.__main__ import main
from bench.cli import progress, snakemake
from bench.cli.run import runs_asked
from bench.evidence import records
from bench.plan import resolve
from tests.factory import record_of
from tests.terminals import in_terminal
from tests.test_pipeline import tiny

# Reads what it is to do from the file `act`, a function of the runs that are missing.
STAND_IN = """
import os, signal, subprocess, sys, time
from pathlib import Path
from bench.evidence import live, records
from bench.plan import config, resolve
from tests.factory import record_of

def say(*lines):
    print(*lines, sep="\\n", file=sys.stderr, flush=True)

Path("called").write_text(repr(sys.argv[1:]))
runs = [run for run in resolve.studies_of(config.load())["quick"].runs if not run.path.exists()]
exec(Path("act").read_text())
"""
TRAINS = """
say("Building DAG of jobs...", "localrule calibrate:", "    jobid: 7")
time.sleep(0.6)
say("Finished jobid: 7 (Rule: calibrate)", "Job 1: training")
for run, accuracy in zip(runs, (97.5, 91.25, 90.0, 80.0)):
    live.write(run, "running", step=40, steps=80, epsilon=3.21, accuracy=55.5, seconds=1.0, seconds_left=1.0)
    time.sleep(0.7)
    records.write(record_of(run, accuracy), run.path)
    live.delete(run)
Path("report").mkdir(exist_ok=True)
Path("report/report.html").touch()
"""
FAILS = """
live.write(runs[0], "failed", reason="the loss is no number")
live.write(runs[1], "stopped", reason="asked to")
records.write(record_of(runs[2], 90.0), runs[2].path)
say("")
for rule, output, log in [
    ("train", runs[0].path, f"results/logs/runs/{runs[0].id}.log"), ("train", runs[1].path, "results/logs/b.log"),
    ("train", runs[2].path, "results/logs/d.log"), ("train", runs[3].path, "results/logs/c.log"),
    ("dataset", "results/datasets/cifar10.json", "results/logs/datasets/cifar10.log"),
]:
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    Path(log).write_text(f"step 3{chr(10)}the last words of {log}{chr(10)}{chr(10)}")
    say(f"Error in rule {rule}:", "    message: None", "    jobid: 1", f"    output: {output}",
        f"    log: {log} (check log file(s) for error details)", "    shell:", "        python -m bench", "[Thu Nov 26]")
sys.exit(1)
"""
WAITS = """
def caught(number, frame):
    with open("caught", "a") as file:
        print(signal.Signals(number).name, file=file)
    time.sleep(0.5)
    sys.exit(1)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, caught)
child = None
if sys.argv[-1] != "job":
    child = subprocess.Popen([sys.executable, sys.argv[0], "job"])
    live.write(runs[0], "running", step=3, steps=80)
Path(f"ready-{'job' if child is None else 'main'}").touch()
try:
    time.sleep(60)
finally:
    if child:
        child.wait()
"""
LOCKED = """
say("SNAKEMAKE", "=========", "Building DAG of jobs...", "LockException:",
    "Error: Directory cannot be locked. Please make sure that no other Snakemake process is trying", "/somewhere")
sys.exit(1)
"""
REFUSED = """
say("Assuming unrestricted shared filesystem usage.", 'WorkflowError in file "/x/workflow/rules/common.smk", line 28:',
    "config.yaml:3: defaults.norm.kind: 'grup' is not one of group", "and another one",
    '  File "/x/workflow/rules/common.smk", line 28, in <module>')
sys.exit(1)
"""
NOTHING = 'say("Building DAG of jobs...", "Nothing to be done (all requested files are present and up to date).")'


@pytest.fixture
def folder(shipped, tmp_path, monkeypatch):
    """A folder with quick at four runs, and a stand-in for Snakemake that does what `act` says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("COLUMNS", "80")
    shipped["studies"]["quick"] |= {"variants": ["baseline", "scalenorm"], "epsilons": [8], "seeds": 2}
    shipped["machine"]["device"] = "cpu"
    Path("config.yaml").write_text(yaml.safe_dump(shipped, sort_keys=False))
    Path("stand_in.py").write_text(STAND_IN)
    monkeypatch.setattr(snakemake, "PROGRAM", [sys.executable, "stand_in.py"])
    monkeypatch.setattr(progress.Plain, "every", 0.1)
    return tmp_path


@pytest.fixture
def runs(folder, shipped):
    return resolve.studies_of(shipped)["quick"].runs


def test_a_line_for_every_run_that_finishes(runs, capfd):
    Path("act").write_text(TRAINS)
    records.write(record_of(runs[0], 12.0), runs[0].path)  # was there before: no news
    assert main(["run"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == [
        "digits/resnet9-w8/baseline/eps8/seed1  97.50 %  10 s",
        "digits/resnet9-w8/scalenorm/eps8/seed0  91.25 %  10 s",
        "digits/resnet9-w8/scalenorm/eps8/seed1  90.00 %  10 s",
    ]
    assert lines[3] == "3 runs trained, 0 failed"
    assert re.fullmatch(r"Report: report/report.html; `\S.* open` shows it", lines[4])
    assert len(lines) == 5
    assert "Building DAG of jobs..." in snakemake.LOG.read_text()


def test_what_is_read_after_the_end_counts(runs, capfd):
    """A run of which the record appears in the last moment, and one that is trained again."""
    records.write(record_of(runs[0], 12.0), runs[0].path)
    Path("act").write_text(
        f"runs = resolve.studies_of(config.load())['quick'].runs[:2]{TRAINS.replace('0.7', '0').replace('0.6', '0')}"
    )
    assert main(["run", "quick"]) == 0
    printed = capfd.readouterr().out
    assert "baseline/eps8/seed0  97.50 %" in printed
    assert "baseline/eps8/seed1  91.25 %" in printed


def test_one_line_a_minute_on_the_whole(runs, capfd, monkeypatch):
    Path("act").write_text(TRAINS)
    monkeypatch.setattr(progress, "MINUTE", 0.3)
    assert main(["run"]) == 0
    out = capfd.readouterr().out
    assert "0 of 4 runs  finding the noise of each epsilon\n" in out
    assert re.search(r"^1 of 4 runs  about \d+ s left$", out, re.M)


def test_on_a_terminal_a_bar_and_a_line_for_every_running_run(runs):
    Path("act").write_text(TRAINS)
    program = "import sys; from bench.cli import snakemake; from bench.__main__ import main; "
    program += "snakemake.PROGRAM = [sys.executable, 'stand_in.py']; sys.exit(main(sys.argv[1:]))"
    seen, code = in_terminal(["run"], program=("-c", program))
    assert code == 0, seen
    text = re.sub(r"\033\[[0-9;?]*[A-Za-z]", "", re.sub(r"\033\[\d*A|\r", "\n", seen))
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(len(line) for line in lines if "shows it" not in line) <= 80
    assert any(re.fullmatch(r"0 of 4 runs  ─+  finding the noise of each epsilon", line) for line in lines)
    assert any(re.fullmatch(r"2 of 4 runs  ━+─+  about \d+ s left", line) for line in lines)
    drawn = [line for line in lines if line.startswith("digits/resnet9-w8/scalenorm/eps8/seed0  ━")]
    assert re.fullmatch(r"\S+  ━+─+  40/80  3.21  55.50  +1 s", drawn[0])
    assert "digits/resnet9-w8/baseline/eps8/seed0  97.50 %  10 s" in lines
    assert "4 runs trained, 0 failed" in lines
    assert seen.rindex("4 runs trained") > seen.rindex("━")  # what was drawn is gone


def test_failures_are_told_with_reason_and_log(runs, capfd):
    Path("act").write_text(FAILS)
    assert main(["run", "--cores", "3"]) == 1
    printed = capfd.readouterr()
    assert "1 run trained, 3 failed" in printed.out
    words = " ".join(printed.err.split())
    first, _, third, last = (run.id for run in runs)
    assert f"{first} the loss is no number log: results/logs/runs/{first}.log" in words
    assert f"{last} the last words of results/logs/c.log log: results/logs/c.log" in words
    assert "dataset results/datasets/cifar10.json the last words of results/logs/datasets/cifar10.log" in words
    assert "b.log" not in words  # it was stopped: it goes on
    assert third not in words  # a second try went well
    assert "All that Snakemake said: results/logs/snakemake.log" in words
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (LOCKED, "run -- --unlock` takes the lock away"),
        (REFUSED, "config.yaml:3: defaults.norm.kind: 'grup' is not one of group\nand another one\n"),
        ("sys.exit('no such thing')", "no such thing"),
    ],
)
def test_what_keeps_snakemake_from_beginning_is_a_sentence(act, expected, folder, capfd):
    Path("act").write_text(act)
    assert main(["run"]) == 1
    printed = capfd.readouterr()
    assert expected in printed.err
    assert not re.search(r"Traceback|File \"|WorkflowError|LockException|SNAKEMAKE", printed.err)


def test_nothing_to_be_done(folder, capfd):
    Path("act").write_text(NOTHING)
    assert main(["run"]) == 0
    assert capfd.readouterr().out == "Nothing to be done: what was asked for is there and up to date\n"


def test_the_answer_of_a_rule_is_shown(folder, capfd):
    Path("act").write_text("Path('results/logs/verify.log').write_text('4 arms compared, no differences\\n')\nsys.exit(1)")
    assert main(["run", "verify"]) == 1
    assert "4 arms compared, no differences" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], ["--cores", "all", "--keep-going", "--show-failed-logs", "--rerun-incomplete"]),
        (
            ["run", "quick", "partial", "--cores", "2", "--", "--use-conda", "--retries", "20"],
            ["quick", "partial", "--cores", "2", "--keep-going", "--use-conda", "--retries", "20"],
        ),
        (["run", "--config", "studies=quick,pocket"], ["--config", "studies=quick,pocket"]),
    ],
)
def test_what_snakemake_is_called_with(arguments, expected, folder):
    Path("act").write_text("")
    assert main(arguments) == 0
    called = eval(Path("called").read_text())
    assert [word for word in called if word in expected] == expected
    assert Path(called[called.index("--snakefile") + 1]).name == "Snakefile"


@pytest.mark.parametrize("option", ["--unlock", "-n", "--dry-run", "-np", "--summary"])
def test_what_snakemake_answers_is_not_hidden(option, folder, capfd):
    Path("act").write_text("say('the answer')")
    assert main(["run", "--", option]) == 0
    assert "the answer" in capfd.readouterr().err
    assert not snakemake.LOG.exists()
    Path("act").write_text("sys.exit(9)")
    assert main(["run", "--", option]) == 1


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_reaches_snakemake_and_its_jobs_once(sent, code, folder):
    Path("act").write_text(WAITS)
    program = "import sys; from bench.cli import snakemake; from bench.__main__ import main; "
    program += "snakemake.PROGRAM = [sys.executable, 'stand_in.py']; sys.exit(main(['run']))"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (Path("ready-main").exists() and Path("ready-job").exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert Path("caught").read_text().split() == [sent.name] * 2
    assert "Stopping: the runs save their state" in out
    assert "Stopped; 4 of 4 runs are left, and the same command goes on" in err


def test_which_runs_are_asked_for(folder, shipped):
    studies = resolve.studies_of(shipped)

    def names(*targets: str, settings=(), gpu: bool = False) -> set[str]:
        asked = {run.id for run in runs_asked(studies, targets, list(settings), gpu)}
        return {name for name, study in studies.items() if {run.id for run in study.runs} <= asked}

    assert names() == names("all") == {"quick"}
    assert names(gpu=True) == set(studies)
    assert names("pocket", "claim") == {"pocket", "claim"}
    assert names(settings=["studies=quick-again,pocket"]) == {"quick-again", "pocket"}
    assert names("verify") == {"quick"}
    assert names("partial") == names("speed") == names("results/runs.csv") == set()
    (run,) = runs_asked(studies, (str(studies["claim"].runs[3].path),), [], False)
    assert run == studies["claim"].runs[3]
    shared = runs_asked(studies, ("quick", "quick"), [], False)
    assert len(shared) == len(studies["quick"].runs)
    with pytest.raises(BenchError, match=re.escape("unknown target 'verfy' (did you mean 'verify'?)")):
        names("verfy")


def test_a_damaged_record_has_failed(runs, capfd):
    Path("act").write_text("sys.exit(1)")
    runs[0].path.parent.mkdir(parents=True)
    runs[0].path.write_text("{")
    assert main(["run"]) == 1
    assert "damaged record" in capfd.readouterr().err


def test_without_snakemake_there_is_a_sentence(folder, monkeypatch, capsys):
    monkeypatch.setattr(snakemake, "find_spec", lambda name: None)
    assert main(["run"]) == 1
    assert "has no Snakemake, which does the work of `run`" in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_snakemake(shipped, tmp_path, monkeypatch, capfd):
    """Trains, does nothing a second time, refuses a lock and takes it away."""
    monkeypatch.chdir(tmp_path)
    config = tiny(json.loads(json.dumps(shipped)))
    config["studies"]["quick"]["epsilons"] = [float("inf")]
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", "--cores", "2"]) == 0
    printed = capfd.readouterr()
    assert len(re.findall(r"^digits/resnet9-w8/\w+/epsinf/seed0  \d+\.\d\d %  \d+ s$", printed.out, re.M)) == 2
    assert "2 runs trained, 0 failed\nReport: report/report.html" in printed.out
    assert printed.err == ""
    assert Path("report/report.html").exists()
    assert main(["run"]) == 0
    assert "Nothing to be done" in capfd.readouterr().out
    Path("results/runs.csv").unlink()
    locks = Path(".snakemake/locks")
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/runs.csv")
    (locks / "0.input.lock").write_text("")
    assert main(["run"]) == 1
    assert "-- --unlock` takes the lock away" in capfd.readouterr().err
    assert main(["run", "--", "--unlock"]) == 0
    assert main(["run"]) == 0
    assert "No run was missing" in capfd.readouterr().out
    assert Path("results/runs.csv").exists()
