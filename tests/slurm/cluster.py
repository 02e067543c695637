"""A Slurm cluster on this machine, for as long as a `with` lasts: two nodes of two made-up GPUs each, without accounting.

    python -m tests.slurm.cluster bash        # a shell, or another command, for which it is there

It needs root, and Debian's packages slurm-wlm and munge. Slurm counts its GPUs, but there are none: jobs train on the CPU.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES, GPUS = ("one", "two"), 2
PATIENCE = 60  # seconds until all daemons must answer

# Short intervals, so that tests are not long; a job that is preempted or requeued by hand runs again.
CONF = """
ClusterName=made-up
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=20
MinJobAge=300
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{nodes}
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 MaxTime=1-0 DefMemPerCPU=100
PartitionName=urgent Nodes=ALL PriorityTier=2 DefMemPerCPU=100
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=64000 Gres=gpu:{gpus}"


def missing() -> str | None:
    """Why no cluster can be had here; None where it can."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_PATH)]
    if absent:
        return f"no {', '.join(absent)}; `apt-get install slurm-wlm munge` brings them"
    return None if os.geteuid() == 0 else "a cluster's daemons need root"


def user() -> pwd.struct_passwd:
    """Whose jobs these are: nobody's, where that user can run this Python, else root's."""
    nobody = pwd.getpwnam("nobody")
    with contextlib.suppress(OSError):
        if subprocess.run([sys.executable, "-c", ""], user=nobody.pw_uid, check=False).returncode == 0:
            return nobody
    return pwd.getpwuid(0)


@contextlib.contextmanager
def started() -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach the cluster; at the end its jobs and daemons are gone."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as place, contextlib.ExitStack() as daemons:
        folder = Path(place)
        folder.chmod(0o755)
        _write(folder)
        environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}:{_PATH}"}

        def start(*command: str | Path) -> None:
            with (folder / f"{command[0]}.out").open("ab") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            daemons.callback(process.wait)
            daemons.callback(process.terminate)

        files = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed", "key")}
        names = ("socket", "pid-file", "log-file", "seed-file", "key-file")
        start(
            "munged",
            "--foreground",
            "--force",
            *(f"--{name}={file}" for name, file in zip(names, files.values(), strict=True)),
        )
        start("slurmctld", "-D")
        for name in NODES:
            start("slurmd", "-D", "-N", name)
        _wait(environment, folder)
        try:
            yield environment
        finally:
            _stop_jobs(environment)


_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


def _write(folder: Path) -> None:
    for name in NODES:
        (folder / f"spool-{name}").mkdir()
    host = socket.gethostname().split(".")[0]
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(1 + len(NODES))]
        ports = [one.getsockname()[1] for one in sockets]
    nodes = [NODE.format(name=name, host=host, port=port, gpus=GPUS) for name, port in zip(NODES, ports[1:], strict=True)]
    (folder / "slurm.conf").write_text(CONF.format(host=host, ports=ports, folder=folder, nodes="\n".join(nodes)))
    for number in range(GPUS):  # Slurm asks for devices
        (folder / f"nvidia{number}").symlink_to("/dev/null")
    (folder / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={folder}/nvidia[0-{GPUS - 1}]\n")
    # Snakemake's jobs forget all variables of Slurm, this one, too; a real cluster has its file in /etc
    (folder / "bin").mkdir()
    (folder / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    (folder / "bin/srun").chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(64))
    (folder / "munge.key").chmod(0o600)


def _wait(environment: dict[str, str], folder: Path) -> None:
    """Until both nodes are idle; RuntimeError with what the daemons said where that does not happen."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        states = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "gpu", "-o", "%t"], capture_output=True, text=True, env=environment, check=False
        )
        if states.stdout.split() == ["idle"] * len(NODES):
            return
        time.sleep(0.2)
    logs = [path for path in sorted(folder.iterdir()) if path.suffix in (".log", ".out")]
    raise RuntimeError(
        "no cluster:\n" + states.stderr + "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in logs)
    )


def _stop_jobs(environment: dict[str, str]) -> None:
    subprocess.run(["scancel", f"--user={user().pw_name}"], env=environment, check=False)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not subprocess.run(["squeue", "-h"], capture_output=True, env=environment, check=False).stdout:
            return
        time.sleep(0.2)


def main(command: list[str]) -> int:
    if reason := missing():
        print(f"no Slurm cluster here: {reason}", file=sys.stderr)
        return 1
    with started() as environment:
        account = user()
        return subprocess.run(
            command, env=environment, user=account.pw_uid, group=account.pw_gid, extra_groups=[], check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
