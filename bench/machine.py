"""What this machine is and can do, and where its code comes from. No torch unless a run asks for its device."""

import contextlib
import hashlib
import os
import platform
import re
import resource
import shlex
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

from bench import ROOT

# The files that can change a run's numbers.
RESULT_SOURCES = (
    *("bench/layers.py", "bench/source.py"),
    *(f"bench/training/{name}.py" for name in ("recipe", "averaging", "trainer", "loop")),
    *("bench/models", "bench/data", "bench/dp"),
)
# Committed results and prose, which no run reads: taking results in must not make the next run one of uncommitted sources.
NO_SOURCES = ("results", "report", "*.md")


def has_cuda() -> bool:
    """Whether an NVIDIA driver lists a GPU and CUDA_VISIBLE_DEVICES hides not all; cheap, so that the Snakefile may ask."""
    return bool(gpus()) and bool(_driver_gpus())


def gpus() -> list[str]:
    """Ids of the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, without it all that the driver lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return _driver_gpus()
    # as CUDA reads it: an id that is none hides the ones behind it
    return list(takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in visible.split(","))))


@cache
def _driver_gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU (\d+):", listing.stdout, re.M) if listing.returncode == 0 else []


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
    """(commit of this code or 'unknown', whether tracked files other than NO_SOURCES differ from it)."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        if "dubious ownership" in done.stderr:
            remedy = f"git config --global --add safe.directory {shlex.quote(str(ROOT))}"
            print(f"{ROOT}: of another user, so that git says no commit; `{remedy}` lets it", file=sys.stderr)
        return done.stdout.strip() if done.returncode == 0 else None

    # a repository around an unpacked archive of this code knows nothing of it
    inside = git("rev-parse", "--show-toplevel")
    head = git("rev-parse", "HEAD") if inside and Path(inside).resolve() == ROOT.resolve() else None
    sources = (".", *(f":!{path}" for path in NO_SOURCES))
    return (head, bool(git("status", "--porcelain", "--untracked-files=no", "--", *sources))) if head else ("unknown", False)


def source_digest() -> str:
    """sha256 over the files that can change a run's numbers, first 12 digits."""
    digest = hashlib.sha256()
    for source in RESULT_SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
