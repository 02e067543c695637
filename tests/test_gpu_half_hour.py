"""The script for a borrowed GPU: it ends in time, stops when something is wrong, and loses nothing that was made."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import time
from io import BytesIO

import pytest

from bench import ROOT

SCRIPT = ROOT / "tools/gpu_half_hour.py"


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The script as a module; a rehearsal of it lies in the working directory."""
    spec = importlib.util.spec_from_file_location("gpu_half_hour", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setenv("OUT", str(tmp_path))
    return module


@pytest.fixture
def call(tool):
    return tool.Call(1, tool.plan([], None, None, rehearse=True))


def unpacked(folder) -> dict[str, bytes]:
    whole = b"".join(part.read_bytes() for part in sorted(folder.glob("results.tar.gz.*")))
    with tarfile.open(fileobj=BytesIO(whole)) as archive:
        return {item.name: archive.extractfile(item).read() for item in archive if item.isfile()}


@pytest.mark.long
def test_a_rehearsal_goes_through_all_calls_and_brings_everything_back(tmp_path):
    command, environment = [sys.executable, str(SCRIPT), "--rehearse"], os.environ | {"OUT": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    assert re.findall(r"^Call (\d) of 4", shown, re.M) == ["1", "2", "3", "4"]
    assert max(len(line) for line in shown.splitlines() if not line.startswith(("Logs: ", "Results: "))) <= 80
    assert re.search(r"gone on +\d+ s  [\d.]+ % after", shown)
    made = unpacked(tmp_path)
    for name in ("layers.csv", "trial-record.json", "logs/1-tests.log"):
        assert made[f"gpu-results/{name}"], name
    assert {"not-private", "fast"} == {line.split(",")[8] for line in made["results/speed.csv"].decode().split("\n")[1:-1]}
    assert any(name.endswith("fast.json.gz") for name in made)
    assert any(name.startswith("results/checkpoints/") for name in made)
    assert "finished so far: 0; the same call goes on" in shown


def test_what_fails_says_why_and_where(call):
    with pytest.raises(Exception, match=r"(?s)no luck.*exit code 3: some tests; .*logs/1-some-tests\.log"):
        call.python("some tests", "-c", "import sys; print('no luck'); sys.exit(3)")
    assert call.python("others", "-c", "import sys; print('later'); sys.exit(75)", fine=(75,)) == "later"


def test_what_takes_too_long_is_asked_to_end_and_then_made_to(call):
    start = time.monotonic()
    with pytest.raises(Exception, match="stopped after 1 s: a long one"):
        call.python("a long one", "-c", "import time; time.sleep(60)", most=1)
    asked = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); time.sleep(60)"
    call.python("a run that saves its state", "-c", asked, most=3, fine=(0, 75))
    assert time.monotonic() - start < 30
    call.end = time.monotonic()
    with pytest.raises(Exception, match="no time is left for: one more"):
        call.python("one more", "-c", "")


@pytest.mark.parametrize(("error", "code", "said"), [("Failed", 1, "1 failed"), ("KeyboardInterrupt", 130, "goes on")])
def test_a_first_call_that_fails_stops_the_others_and_packs_what_there_is(
    error, code, said, tool, tmp_path, monkeypatch, capsys
):
    def fail(call):
        raise getattr(tool, error, KeyboardInterrupt)("1 failed")

    monkeypatch.setattr(tool, "right", fail)
    assert tool.main(["--rehearse"]) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Call 2" not in printed.out
    assert "gpu-results/logs/1-commit.log" in unpacked(tmp_path)


@pytest.mark.parametrize("found", [None, "sources of another day"])
def test_later_calls_wait_for_the_first(tool, found, capsys):
    if found:
        call = tool.Call(1, tool.plan([2], None, None, rehearse=True))
        tool.passed(call.plan).write_text(found)
    assert tool.main(["2", "--rehearse"]) == 1
    assert "call 1 has not passed with these sources; it comes first" in capsys.readouterr().err


def test_a_large_result_comes_in_parts(tool, tmp_path, monkeypatch):
    content = os.urandom(3000)
    (tmp_path / "results/runs").mkdir(parents=True)
    (tmp_path / "results/runs/seed0.json").write_bytes(content)
    monkeypatch.setattr(tool, "PART", 1000)
    out = tmp_path / "out"
    parts = tool.pack(tmp_path, out)
    assert len(parts) > 3
    assert max(part.stat().st_size for part in parts) <= 1000
    assert unpacked(out) == {"results/runs/seed0.json": content}
    monkeypatch.setattr(tool, "PART", 10**6)
    assert [path.name for path in tool.pack(tmp_path, out)] == ["results.tar.gz.00"]
    assert unpacked(out) == {"results/runs/seed0.json": content}  # no part of before is left


def test_on_a_gpu_the_tests_marked_cuda_come_first(tool):
    plan = tool.plan([], None, None, rehearse=False)
    assert plan.tests[:2] == ("-m", "cuda")
    assert "tests/dp/test_gradients.py" in plan.tests
    assert (plan.study, plan.epsilon, plan.place) == ("claim-bf16", "8", ROOT)
    assert sum(minutes for minutes, _ in tool.CALLS.values()) < 30
    assert plan.seconds + 30 < 60 * tool.CALLS[4][0]  # to start, and to save a state


def test_the_wheels_that_the_document_names_are_pinned():
    names = re.search(r"grep -E '\^\((.*?)\)=='", (ROOT / "docs/machines.md").read_text())[1].split("|")
    pinned = [line.split("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert len(names) == 9
    assert set(names) <= set(pinned)
