"""What a site fills in at the top of profiles/slurm/config.yaml, held against what Slurm says of itself; shares of an array.

A job that asks for what a partition does not have waits for ever, without a word. It imports `bench` alone.
"""

import os
import re
import subprocess
from dataclasses import dataclass

from bench import BenchError

PROFILE = "profiles/slurm/config.yaml"
FILL_IN = "FILL-IN"
LINES = {
    "slurm_partition": "where jobs go; `sinfo -s` lists the partitions",
    "slurm_account": 'whom jobs are charged to; `""` where your cluster has no accounts, or one that is yours',
    "runtime": "minutes that a job gets; what takes longer goes on in the next one",
}
# Snakemake's executor takes a preempted job for one that Slurm starts again
CANCELS = (
    "partition {}: Slurm cancels what it preempts there (PreemptMode=CANCEL), and Snakemake waits for such a job for ever. "
    "Once it tells of a job preemption, end it with Ctrl-C and give the same command: runs go on from their checkpoints"
)


@dataclass(frozen=True)
class Partition:
    """`minutes` is its time limit, None for none; `cancels`: what is preempted there is cancelled, not requeued."""

    minutes: int | None
    has_gpus: bool
    cancels: bool


def check(lines: dict[str, str], gpus: int, device: str) -> list[str]:
    """BenchError for a line of the profile that is not filled in, or that asks for what Slurm has not got; else warnings.

    `lines` are the profile's `default-resources`, `gpus` its `resources: gpu`, `device` is `machine.device`.
    """
    for name, meaning in LINES.items():
        if lines.get(name) in (None, "None", FILL_IN):
            raise BenchError(f"{PROFILE}: fill in `{name}`, {meaning}")
    if not lines["runtime"].isdigit() or lines["runtime"] == "0":
        raise BenchError(f"{PROFILE}: `runtime: {lines['runtime']}` is no number of minutes")
    if gpus < 1 and device != "cpu":
        raise BenchError(
            f"{PROFILE}: fill in `gpu`, how many GPUs jobs may hold at once; for a cluster without any, "
            "write machine: {device: cpu} into config.local.yaml"
        )
    known = partitions()
    names = lines["slurm_partition"].split(",")
    for name in names:
        if name not in known:
            raise BenchError(f"{PROFILE}: `slurm_partition: {name}`: Slurm has {', '.join(sorted(known))}")
        partition = known[name]
        if partition.minutes is not None and int(lines["runtime"]) > partition.minutes:
            raise BenchError(f"{PROFILE}: `runtime: {lines['runtime']}`: partition {name} gives {partition.minutes} minutes")
        if device != "cpu" and not partition.has_gpus:
            raise BenchError(
                f"{PROFILE}: `slurm_partition: {name}` has no GPUs; name one that has, or write machine: {{device: cpu}} "
                "into config.local.yaml"
            )
    return [CANCELS.format(name) for name in names if known[name].cancels]


def partitions() -> dict[str, Partition]:
    """By name what `sinfo` lists; BenchError where it does not answer."""
    try:
        done = subprocess.run(["sinfo", "-h", "-o", "%R|%l|%G|%M"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError("no `sinfo` here; give this command where Slurm's commands are, on a login node") from None
    if done.returncode != 0:
        raise BenchError(f"`sinfo` fails: {done.stderr.strip()}")
    found: dict[str, Partition] = {}
    for line in done.stdout.splitlines():  # a partition has a line for each kind of its nodes
        name, limit, generic, preempted = line.split("|")
        before = found.get(name)
        has_gpus = "gpu" in generic or (before is not None and before.has_gpus)
        found[name] = Partition(_minutes(limit), has_gpus, "CANCEL" in preempted)
    return found


def _minutes(limit: str) -> int | None:
    """Of Slurm's DAYS-HOURS:MINUTES:SECONDS, days and hours only where there are some; None for `infinite` and the like."""
    if not re.fullmatch(r"(\d+-)?(\d+:)*\d+", limit):
        return None
    days, _, clock = limit.rpartition("-")
    hours, minutes, _ = ([0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return int(days or 0) * 24 * 60 + hours * 60 + minutes


def own_first(runs: list) -> list:
    """`runs` in the order of this task of a job array: each begins with a share of its own, and then takes what others left.

    So that tasks do not meet at the same run, on file systems, too, where they see no locks of each other.
    """
    try:
        number, first, count = (int(os.environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT"))
    except (KeyError, ValueError):
        return runs
    mine = slice((number - first) % count, None, count)
    return [*runs[mine], *(run for position, run in enumerate(runs) if position % count != mine.start)]
