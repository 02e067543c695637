#!/usr/bin/env python3
"""Half an hour of a GPU in four calls, each of which ends in time and can be repeated.

    python tools/gpu_half_hour.py              all four, one after another
    python tools/gpu_half_hour.py 4            one of them; 4 goes on from its checkpoint as often as it is called
    python tools/gpu_half_hour.py 4 --study claim --epsilon 3
    python tools/gpu_half_hour.py --rehearse   all four on this CPU, small, in a folder of their own

Calls 2 to 4 refuse to start until call 1 has passed with the same sources. After each call everything is packed into
results.tar.gz.00, .01, ... of at most 15 MB, in $OUT or else in gpu-results; unpacked over a checkout,
`cat results.tar.gz.* | tar xz`, it is there as if it had been made there: records, checkpoints, tables, logs.
No network is needed where wheels lie in `wheels`.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PART = 15 * 10**6  # bytes
LATER = 75  # exit code of `bench train`: stopped in time
WHEELS, SITE = ROOT / "wheels", ROOT / "wheels/installed"
PACKED = ("gpu-results", "results/runs", "results/kept", "results/checkpoints", "results/logs", "results/speed.csv")
CALLS = {  # minutes, and what it is about
    1: (4, "does it compute the right numbers here?"),
    2: (7, "which kernels are fast, layer by layer"),
    3: (6.5, "whole steps, engine by engine"),
    4: (9.5, "training"),
}
WIDTH = 40  # columns of what a step said last
DEVICE = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU', torch.__version__)"
TRIAL = """
import sys
from dataclasses import replace
from bench.plan import config, resolve
run = next(run for study in resolve.studies_of(config.load()).values() for run in study.runs if run.id == sys.argv[1])
text = replace(run, recipe_name="trial", recipe=run.recipe | {"steps": 20, "evaluate_every": 10}).json()
open(sys.argv[2], "w").write(text)
"""


@dataclass(frozen=True)
class Plan:
    """What the calls run: on a GPU, or small on a CPU."""

    place: Path  # working directory: where results lie
    tests: tuple[str, ...]
    trial: str  # id of a run that is cut to 20 steps
    study: str
    epsilon: str
    seconds: int  # of training
    layers: tuple[str, ...] = ()
    speed: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    traced: tuple[str, ...] = ("resnet9:1024:1:float32", "resnet9:1024:1:bf16", "wrn16-4:32:16:bf16")
    environment: dict = field(default_factory=dict)


def plan(calls: list[int], study: str | None, epsilon: str | None, rehearse: bool) -> Plan:
    """Of `calls`; a rehearsal whose first call is among them, or that has all, starts from nothing."""
    if not rehearse:
        files = sorted(ROOT.glob("tests/**/*.py"))
        marked = [str(path.relative_to(ROOT)) for path in files if "mark.cuda" in path.read_text()]
        trial = "klause-resnet9-bf16/resnet9/scalenorm/eps8/seed0"
        return Plan(ROOT, ("-m", "cuda", *marked), trial, study or "claim-bf16", epsilon or "8", 510)
    place = Path(os.environ.get("OUT") or ROOT / "gpu-results").absolute() / "rehearsal"
    if 1 in (calls or CALLS):
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "config.yaml", place)
    return Plan(
        place,
        tests=("tests/test_layers.py",),
        trial="digits/resnet9-w8/scalenorm/eps8/seed0",
        study=study or "quick",
        epsilon=epsilon or "8",
        seconds=2,
        layers=("--tiny",),
        speed=("--no-memory", "--threads", "1"),
        cases=("resnet9-w8:2:1:bf16",),
        traced=("resnet9-w8:2:1:bf16",),
        environment={"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


class Failed(Exception):
    """A step of a call has failed, or took too long."""


class Call:
    """One of the four: its steps, their logs, its time."""

    def __init__(self, number: int, plan: Plan):
        self.number, self.plan = number, plan
        self.minutes, self.about = CALLS[number]
        self.end = time.monotonic() + 60 * self.minutes
        self.logs = plan.place / "gpu-results/logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(ROOT), str(SITE)])
        self.environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | plan.environment
        print(f"\nCall {number} of 4: {self.about} (at most {self.minutes:g} min)", flush=True)

    def python(self, what: str, *arguments: str, where: Path | None = None, fine: tuple[int, ...] = (0,), most=600.0) -> str:
        """Runs Python with `arguments`, at most `most` seconds, and returns what it printed; Failed where the exit code is
        none of `fine`."""
        log, start = self.logs / f"{self.number}-{what.replace(' ', '-').replace(',', '')}.log", time.monotonic()
        limit = min(most, self.end - start)
        if limit < 1:
            raise Failed(f"no time is left for: {what}; call {self.number} once more makes up for it")
        print(f"  {what:<26}", end="", flush=True)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=where or self.plan.place,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            late = not _ended(process, limit)
        lines = log.read_text(errors="replace").splitlines()
        last = next((line.strip(" =") for line in reversed(lines) if line.strip(" =")), "")
        print(f"{time.monotonic() - start:5.0f} s  {last.split(': ', 1)[-1][:WIDTH]}", flush=True)
        if process.returncode not in fine:
            why = f"stopped after {limit:.0f} s" if late else f"exit code {process.returncode}"
            raise Failed("\n".join([*lines[-15:], f"{why}: {what}; all that it said is in {_short(log)}"]))
        return "\n".join(lines)


def _ended(process: subprocess.Popen, seconds: float) -> bool:
    """Whether it ended by itself; if not, it got SIGTERM and a quarter of a minute. Ctrl-C and SIGTERM here reach it, too."""
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, None)):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)


def right(call: Call) -> None:
    """The tests marked cuda, and a run that is stopped and goes on."""
    plan = call.plan
    call.python("tests", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *plan.tests, where=ROOT)
    spec, record = (plan.place / f"gpu-results/trial-{name}.json" for name in ("run", "record"))
    call.python("a run of 20 steps", "-c", TRIAL, plan.trial, str(spec))
    train = ("-m", "bench", "train", "--run-json", spec.read_text(), "--out", str(record))
    shutil.rmtree(plan.place / "results/kept/trial", ignore_errors=True)  # of a call before: it would be put back
    call.python("stopped after a step", *train, "--stop-after", "0.1s", fine=(LATER,))
    call.python("gone on", *train)
    shutil.rmtree(plan.place / "results/kept/trial")
    if not json.loads(record.read_text())["cost"]["resumed_at_step"]:
        raise Failed("the run of 20 steps began anew instead of going on from its checkpoint")
    passed(plan).write_text(_sources())


def layers(call: Call) -> None:
    """What the device can do at most, then the layers of ResNet-9 and WRN-16-4."""
    command = ("-m", "bench.speed.layers", "--out", "gpu-results/layers.csv", "--seconds", "380")
    call.python("forms of gradients", *command, *call.plan.layers)


def steps(call: Call) -> None:
    """The table first, its rows kept as they come; then the traces."""
    only = ("--case", *call.plan.cases) if call.plan.cases else ()
    speed = ("-m", "bench.speed", "--out", "results/speed.csv", *call.plan.speed)
    call.python("speed table", *speed, *only, most=330)
    call.python("a step of each, profiled", *speed, "--case", *call.plan.traced, "--traces", "gpu-results/traces")


def train(call: Call) -> None:
    """Seed by seed, so that pairs are whole early. What is left waits for the next call."""
    plan = call.plan
    command = ("train", "--study", plan.study, "--epsilon", plan.epsilon, "--stop-after", f"{plan.seconds}s")
    call.python(f"{plan.study}, epsilon {plan.epsilon}", "-m", "bench", *command, fine=(0, LATER))
    done = len(list((plan.place / "results/runs").glob("*/*/*/*/seed*.json")))
    print(f"  runs finished so far: {done}; the same call goes on with the rest")


def pack(place: Path, out: Path) -> list[Path]:
    """Everything that was made, in parts that can be carried; those of before are replaced."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("results.tar.gz.*"):
        old.unlink()
    whole = out / ".whole"
    with tarfile.open(whole, "w:gz", compresslevel=1) as archive:
        for name in PACKED:
            if (place / name).exists():
                archive.add(place / name, name, filter=lambda item: None if _left_out(item.name) else item)
    parts = []
    with whole.open("rb") as file:
        while data := file.read(PART):
            parts.append(out / f"results.tar.gz.{len(parts):02d}")
            parts[-1].write_bytes(data)
    whole.unlink()
    return parts


def _left_out(name: str) -> bool:
    return name.startswith(("gpu-results/results.tar.gz", "gpu-results/.whole", "gpu-results/rehearsal"))


def prepare(call: Call, rehearse: bool) -> None:
    """Wheels, a GPU, and a commit by which records can be taken in."""
    if list(WHEELS.glob("*.whl")) and not SITE.exists():
        wheels = map(str, sorted(WHEELS.glob("*.whl")))
        call.python("wheels", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(SITE), *wheels)
    if not rehearse and "no GPU" in call.python("device", "-c", DEVICE):
        raise Failed("torch sees no CUDA GPU here; --rehearse goes through all calls on a CPU")
    if call.number == 1:
        commit = call.python("commit", "-c", "from bench import machine; print(*machine.commit())").split()
        if commit[0] == "unknown" or commit[1] == "True":
            print("  note: no commit gives these sources back, so `bench promote` will")
            print("  refuse the records; docs/machines.md, Half an hour of a GPU, says what is missing")
    elif not passed(call.plan).exists() or passed(call.plan).read_text() != _sources():
        raise Failed("call 1 has not passed with these sources; it comes first")


def passed(plan: Plan) -> Path:
    return plan.place / "gpu-results/passed"


def _sources() -> str:
    sys.path[:0] = [str(ROOT)] * (str(ROOT) not in sys.path)
    from bench import machine

    return machine.source_digest()


def _short(path: Path) -> str:
    return min(str(path), os.path.relpath(path), key=len)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("call", nargs="*", type=int, help="1 to 4 (default: all four)")
    parser.add_argument("--study", help="of call 4 (default: claim-bf16)")
    parser.add_argument("--epsilon", help="of call 4 (default: 8)")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, small")
    options = parser.parse_args(arguments)
    if not set(options.call) <= set(CALLS):
        parser.error("calls are 1 to 4")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = plan(options.call, options.study, options.epsilon, options.rehearse)
    out = Path(os.environ.get("OUT") or chosen.place / "gpu-results")
    print(f"Logs: {_short(chosen.place / 'gpu-results/logs')}. Python: {_short(Path(sys.executable))}")
    try:
        for number in options.call or CALLS:
            call = Call(number, chosen)
            prepare(call, options.rehearse)
            start = time.monotonic()
            {1: right, 2: layers, 3: steps, 4: train}[number](call)
            print(f"  done in {(time.monotonic() - start) / 60:.1f} min")
    except Failed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command once more goes on", file=sys.stderr)
        return 130
    finally:
        parts = pack(chosen.place, out)
        size = sum(part.stat().st_size for part in parts) / 1e6
        print(f"\nResults: {_short(out)}/results.tar.gz.00" + f" to .{len(parts) - 1:02d}" * (len(parts) > 1))
        print(f"  {size:.1f} MB; over a checkout, `cat results.tar.gz.* | tar xz` puts all in its place", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
