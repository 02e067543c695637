"""profiles/slurm on a cluster that these tests start: a run ends in one record, whatever happens to its jobs."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import ROOT
from tests.slurm import cluster
from tests.test_pipeline import tiny, write

WHY_NOT = cluster.missing() or (
    None if find_spec("snakemake_executor_plugin_slurm") else "no executor plugin; `pip install -e '.[slurm]'` brings it"
)
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

FILLED_IN = {
    "slurm_partition: FILL-IN": "slurm_partition: gpu",
    "slurm_account: FILL-IN": 'slurm_account: ""',
    "runtime: FILL-IN": "runtime: 60",
    "gpu: 0": "gpu: 4",
}
PREEMPT = ("sbatch", "--partition=urgent", "--nodes=2", "--gpus-per-node=2", "--output=/dev/null", "--wrap=true")
LONG = 240  # steps of seven seconds on an idle core: none has finished before it is frozen
PATIENCE = 400  # seconds until what a test waits for must have happened


class Checkout:
    """A copy of these sources that belongs to the cluster's user, whose commands run in it."""

    def __init__(self, folder: Path, environment: dict[str, str], config: dict):
        self.folder, user = folder, cluster.user()
        self.drivers: list[subprocess.Popen] = []
        for name in ("bench", "workflow", "profiles", "results/reference"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "CITATION.cff"):
            shutil.copy(ROOT / name, folder)
        write(config, folder)
        profile = folder / "profiles/slurm/config.yaml"
        text = profile.read_text()
        for unfilled, filled in FILLED_IN.items():
            assert unfilled in text
            text = text.replace(unfilled, filled)
        profile.write_text(text)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid)
        for parent in [folder, *folder.parents][:3]:  # pytest's, for its user alone
            parent.chmod(0o755)
        environment = environment | {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self.how = {"cwd": folder, "env": environment, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(self, *command: str) -> str:
        """What a command prints; its failure fails the test."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self.how)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def snakemake(self, *arguments: str) -> "Driver":
        return Driver(self, *arguments)

    def jobs(self) -> dict[str, tuple[str, str]]:
        """By variant (id, state) of the jobs that are there, the last one of each."""
        lines = self.run("squeue", "-h", "--states=all", "--sort=i", "-o", "%i %T %k").splitlines()
        found = [re.match(r"(\d+) (\w+) rule_train_wildcards_digits_resnet9-w8_([a-z-]+)_inf_0$", line) for line in lines]
        return {job[3]: (job[1], job[2]) for job in found if job}

    def live(self, variant: str) -> dict:
        try:
            return json.loads((self.folder / f"results/live/digits/resnet9-w8/{variant}/epsinf/seed0.json").read_text())
        except FileNotFoundError:
            return {}

    def log(self, variant: str) -> str:
        """Empty where there is none, as for a moment when Snakemake starts a job again."""
        try:
            return (self.folder / f"results/logs/runs/digits/resnet9-w8/{variant}/epsinf/seed0.log").read_text()
        except FileNotFoundError:
            return ""

    def records(self) -> dict[str, dict]:
        """By variant; a run has one, and nothing else is left of it."""
        for name in ("kept", "checkpoints", "live"):
            assert not [path for path in (self.folder / "results" / name).rglob("*") if path.is_file()], name
        found = [json.loads(path.read_text()) for path in (self.folder / "results/runs").rglob("*.json")]
        return {record["run"]["id"].split("/")[2]: record for record in found}

    def freeze(self, variant: str) -> str:
        """Stops the processes of a job in the middle of training, so that it cannot end before its fate; its id."""
        wait(lambda: self.live(variant).get("step"), self.log_of_driver)
        number, _ = self.jobs()[variant]
        self.run("scancel", "--signal=STOP", number)
        return number

    @property
    def log_of_driver(self) -> Path:
        return self.folder / "driver.log"


class Driver:
    """Snakemake with the profile."""

    def __init__(self, checkout: Checkout, *arguments: str):
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *arguments]
        self.path = checkout.log_of_driver
        with self.path.open("w") as log:
            # what a shell starts in the background ignores Ctrl-C, and so would all that it starts
            heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=heed, **checkout.how)
        checkout.drivers.append(self.process)

    def ends(self) -> str:
        """What it said; it must end well."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        assert self.process.poll() == 0, self.path.read_text()
        return self.path.read_text()


def wait(until: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm():
    with cluster.started() as environment:
        yield environment


@pytest.fixture
def checkout(slurm, tmp_path, shipped) -> Iterator[Callable[[list[str], int], Checkout]]:
    """Makes one with these variants, without privacy, of so many steps each."""

    made: list[Checkout] = []

    def make(variants: list[str], steps: int) -> Checkout:
        config = tiny(shipped)
        config["machine"]["device"] = "auto"  # as shipped
        config["recipes"]["digits"] |= {"steps": steps, "evaluate_every": steps}
        config["studies"] = {"quick": config["studies"]["quick"] | {"variants": variants, "epsilons": [float("inf")]}}
        config["claims"] = {}
        made.append(Checkout(tmp_path / "checkout", slurm, config))
        return made[-1]

    (tmp_path / "checkout").mkdir()
    yield make
    for driver in [driver for one in made for driver in one.drivers]:
        driver.kill()  # of a test that failed
        driver.wait()


def test_quick_goes_through_while_code_is_edited(checkout):
    here = checkout(["baseline", "scalenorm"], 4)
    driver = here.snakemake()
    wait(lambda: len(here.jobs()) == 2, driver.path)
    gpus = here.run("squeue", "-h", "-o", "%i %b %N").split("\n")
    with (here.folder / "bench/training/loop.py").open("a") as file:
        file.write("\n# edited\n")
    said = driver.ends()
    assert said.count("has been submitted with SLURM jobid") == 2, gpus
    assert set(here.records()) == {"baseline", "scalenorm"}
    assert "</html>" in (here.folder / "report/report.html").read_text()
    assert "Nothing to be done" in here.snakemake("--dry-run").ends()


def test_a_job_at_its_time_limit_cancelled_or_requeued_goes_on(checkout):
    variants = ["baseline", "scalenorm", "on-skip"]
    here = checkout(variants, LONG)
    driver = here.snakemake("summarise")
    limited, cancelled, requeued = [here.freeze(variant) for variant in variants]
    subprocess.run(["scontrol", "update", f"jobid={limited}", "EndTime=now+2"], env=here.how["env"], check=True)
    here.run("scancel", cancelled)
    here.run("scontrol", "requeue", requeued)
    said = driver.ends()
    records = here.records()
    assert set(records) == set(variants)
    for variant, record in records.items():
        assert record["cost"]["resumed_at_step"] > 0, variant
    # one retry each of what failed in the eyes of Snakemake; Slurm starts the other again
    assert said.count("has been submitted with SLURM jobid") == 5
    assert said.count("Trying to restart job") == 2
    # a run's own log is that of its last job; what those said that failed is in the driver's
    assert said.count("the same command goes on from there") == 2
    assert "'TIMEOUT'" in said
    assert "'CANCELLED'" in said
    assert [number for number, _ in here.jobs().values() if number in (limited, cancelled, requeued)] == [requeued]


def test_a_preempted_job_goes_on(checkout):
    here = checkout(["scalenorm"], LONG)
    driver = here.snakemake("summarise")
    number = here.freeze("scalenorm")
    here.run(*PREEMPT)
    said = driver.ends()
    assert here.records()["scalenorm"]["cost"]["resumed_at_step"] > 0
    assert said.count("has been submitted with SLURM jobid") == 1
    assert here.jobs()["scalenorm"][0] == number


def test_a_job_that_is_cancelled_by_preemption_goes_on_when_the_driver_is_started_again(checkout, slurm):
    here = checkout(["scalenorm"], LONG)
    with preempt_mode("CANCEL", slurm):
        driver = here.snakemake("summarise")
        here.freeze("scalenorm")
        here.run(*PREEMPT)
        wait(lambda: "A Job preemption" in driver.path.read_text(), driver.path)
        assert "partition gpu: Slurm cancels what it preempts there" in driver.path.read_text()
        driver.process.send_signal(signal.SIGINT)
        driver.process.wait(PATIENCE)
        here.snakemake("summarise").ends()
    assert here.records()["scalenorm"]["cost"]["resumed_at_step"] > 0


@contextlib.contextmanager
def preempt_mode(mode: str, environment: dict[str, str]) -> Iterator[None]:
    """Of partition gpu; afterwards it requeues again."""
    command = ["scontrol", "update", "partition=gpu"]
    subprocess.run([*command, f"PreemptMode={mode}"], env=environment, check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "PreemptMode=REQUEUE"], env=environment, check=True)


def test_a_driver_that_was_asked_to_end_is_started_again(checkout):
    """By a supervisor's SIGTERM, to it alone: it waits for what runs, and what ran is not trained again."""
    here = checkout(["scalenorm"], LONG)
    driver = here.snakemake("summarise")
    number = here.freeze("scalenorm")
    driver.process.terminate()
    here.run("scancel", "--signal=CONT", number)
    driver.process.wait(PATIENCE)
    (record,) = (here.folder / "results/runs").rglob("*.json")
    before = record.read_text()
    here.snakemake("summarise").ends()
    assert set(here.records()) == {"scalenorm"}
    assert record.read_text() == before


def test_a_killed_driver_is_started_again(checkout):
    here = checkout(["scalenorm"], LONG)
    driver = here.snakemake("summarise")
    number = here.freeze("scalenorm")
    driver.process.send_signal(signal.SIGKILL)
    driver.process.wait()
    here.snakemake("--unlock").ends()
    driver = here.snakemake("summarise")
    wait(lambda: "another process trains this run; waiting for it" in here.log("scalenorm"), driver.path)
    here.run("scancel", "--signal=CONT", number)
    driver.ends()
    assert "finished before" in here.log("scalenorm")
    assert here.records()["scalenorm"]["cost"]["resumed_at_step"] == 0


def test_an_array_of_short_runs(checkout):
    """The documented way to a study of short runs: two submissions' worth of starts for four runs, and then the tables."""
    variants = ["baseline", "scalenorm", "before-add", "on-skip"]
    here = checkout(variants, 4)
    command = f"exec {sys.executable} -m bench train --study quick"
    here.run("sbatch", "--wait", "--array=1-2", "--gpus=1", "--mem=4G", "--output=array-%a.log", f"--wrap={command}")
    logs = [(here.folder / f"array-{task}.log").read_text() for task in (1, 2)]
    finished = [re.findall(r"^digits/resnet9-w8/([a-z-]+)/epsinf/seed0: \d", log, re.M) for log in logs]
    assert sorted(finished[0] + finished[1]) == sorted(variants)
    assert all(finished)
    said = here.snakemake("summarise").ends()
    assert "has been submitted" not in said
    assert set(here.records()) == set(variants)
