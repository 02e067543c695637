"""What this machine is and can do, and where its code comes from; beside it its GPUs, Slurm and conda.

Settings and what the system says of itself enter; names, counts, digests and refusals leave. It imports no room, and torch
only where a run asks for its device.
"""

import contextlib
import hashlib
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench import ROOT, BenchError
from bench.machine import gpus

# The files that can change a run's numbers.
RESULT_SOURCES = (
    *("bench/layers.py", "bench/source.py", "bench/plugins.py", "bench/names.py", "bench/plan/families.py"),
    *(f"bench/training/{name}.py" for name in ("recipe", "averaging", "device", "physical", "trainer", "loop")),
    *("bench/models", "bench/data", "bench/dp"),
)
# Committed results and prose, which no run reads: taking results in must not make the next run one of uncommitted sources.
NO_SOURCES = ("results", "report", "*.md")
PROVENANCE = "provenance.json"  # beside the package, in a copy without git: what `bench provenance` printed at home


def has_cuda() -> bool:
    """Whether an NVIDIA driver lists a GPU and CUDA_VISIBLE_DEVICES hides not all; cheap, so that the Snakefile may ask."""
    return bool(gpus.listed()) and bool(gpus.visible())


def uses_gpu(machine: dict) -> bool:
    """Whether runs go to a GPU under these `machine` settings; `device: cuda` is taken at its word, and fails without one."""
    return machine["device"] == "cuda" or (machine["device"] == "auto" and has_cuda())


def put_python_on_path() -> None:
    """Child processes that call `python` get this one, unless a conda environment is activated in front of it."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def describe(device, machine: dict) -> dict:
    """The machine as a record states it; `device` is a torch.device."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": device.type,
        "device_name": gpu or cpu_name(),
        "cpu": cpu_name(),
        "gpu": gpu,
        "engine": machine["engine"],
        "physical_batch": machine["physical_batch"],
        "deterministic": device.type == "cpu" or machine.get("deterministic", False),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        **{package: version(package) for package in ("torch", "opacus", "dp-accounting", "numpy")},
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, or since `forget_peak_memory`, MiB."""
    try:  # getrusage would report the parent's peak, which a process inherits when it is forked
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if platform.system() == "Darwin" else 1024)


def forget_peak_memory() -> None:
    """Lets `peak_memory_mb` start anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def commit() -> tuple[str, bool]:
    """(commit of this code or 'unknown', whether tracked files other than NO_SOURCES differ from it).

    Without git it is what PROVENANCE says, if that was made of the sources that are here.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        if "dubious ownership" in done.stderr:
            remedy = f"git config --global --add safe.directory {shlex.quote(str(ROOT))}"
            print(f"{ROOT}: of another user, so that git says no commit; `{remedy}` lets it", file=sys.stderr)
        return done.stdout.strip() if done.returncode == 0 else None

    # a repository around a copy of this code knows nothing of it
    inside = git("rev-parse", "--show-toplevel")
    head = git("rev-parse", "HEAD") if inside and Path(inside).resolve() == ROOT.resolve() else None
    if not head:
        return _commit_at_home()
    sources = (".", *(f":!{path}" for path in NO_SOURCES))
    return head, bool(git("status", "--porcelain", "--untracked-files=no", "--", *sources))


def provenance() -> dict:
    """What a copy without git needs to know, as its PROVENANCE; BenchError where no git knows it."""
    head, dirty = commit()
    if head == "unknown":
        raise BenchError(f"{ROOT}: no git repository, so that no commit is known; ask where it was copied from")
    return {"commit": head, "dirty": dirty, "source_digest": source_digest()}


def _commit_at_home() -> tuple[str, bool]:
    path = ROOT / PROVENANCE
    try:
        found = json.loads(path.read_text())
        here = source_digest()
        head, dirty, digest = str(found["commit"]), bool(found["dirty"]), found["source_digest"]
        problem = None if digest == here else f"it was made of other sources ({digest}; here they are {here})"
    except FileNotFoundError:
        return "unknown", False
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"not what `bench provenance` prints ({error!r})"
    if problem is None:
        return head, dirty
    print(
        f"{path}: {problem}, so records will name no commit; make it where git is with "
        f"`python -m bench provenance > {PROVENANCE}`, and copy both again",
        file=sys.stderr,
    )
    return "unknown", False


def source_digest() -> str:
    """sha256 over the files that can change a run's numbers, first 12 digits."""
    digest = hashlib.sha256()
    for source in RESULT_SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
