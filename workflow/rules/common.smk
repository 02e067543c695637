# The configuration, checked, and what the rules ask of it. Meaning lives in bench/plan/spec.py.
import gc
import json
import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))

import bench
from bench import BenchError, machine, source
from bench.machine import gpus, slurm
from bench.machine.conda import check as check_conda
from bench.evidence import imported
from bench.plan import config as configuration
from bench.plan import resolve, spec

# Thousands of planned jobs are millions of objects that live on: looking through them costs a twentieth of the plan's time
gc.set_threshold(200_000, 50, 50)
REPO = os.path.relpath(workflow.basedir)
machine.put_python_on_path()
# `python -m bench` finds this checkout from any working directory, in conda environments too. Huge pages for glibc's
# allocations: a tenth less time on a CPU (bench/speed/NOTES.md)
# What runs on this machine shares one start (bench/warm.py); a job on another node has its own.
WARM = f" BENCH_WARM={os.getpid()}" if workflow.is_main_process else ""
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(workflow.basedir))}{WARM}"
    " GLIBC_TUNABLES=${{GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}}; "
)

USES_CONDA = workflow.is_main_process and "CONDA" in [
    method.name for method in workflow.deployment_settings.deployment_method
]
SITE = {
    name: str(getattr(value, "raw", value))
    for name, value in (workflow.resource_settings.default_resources or {}).items()
}
SITE_GPUS = dict(workflow.global_resources).get("gpu")
ON_SLURM = "slurm_partition" in SITE and workflow.is_main_process
try:
    CONFIG = configuration.load()
    STUDIES = resolve.studies_of(CONFIG)
    GPU = machine.uses_gpu(CONFIG["machine"])
    GPUS = len(gpus.visible()) if GPU else 0
    if USES_CONDA:
        check_conda()
    if ON_SLURM:
        for warning in slurm.check(
            SITE, SITE_GPUS.value if SITE_GPUS else 0, CONFIG["machine"]["device"]
        ):
            logger.warning(warning)
except BenchError as error:
    raise WorkflowError(str(error)) from None
# profiles/slurm: a job asks for a GPU although this machine, a login node, may have none
GPU = GPU or (ON_SLURM and CONFIG["machine"]["device"] == "auto")

RUNS = {run.id: run for study in STUDIES.values() for run in study.runs}
BUDGETS = {
    (run.recipe_name, spec.epsilon_text(run.epsilon)): run for run in RUNS.values()
}
# A unit of the resource `gpu` is a run on a GPU; which GPU, bench/training/lease.py settles. `device: cuda` without a driver
# is one.
GPU_SLOTS = CONFIG["machine"]["runs_per_gpu"] * max(1, GPUS) if GPU else 0
if workflow.is_main_process:
    # Without a limit Snakemake would start every run at once; `--resources gpu=N` still wins.
    workflow.global_resources.setdefault("gpu", GPU_SLOTS)


def selected() -> list[str]:
    """The studies of `--config studies=a,b`, or those that this machine runs by itself."""
    unknown = sorted(set(config) - {"studies"})
    if unknown:
        raise WorkflowError(
            f"--config {unknown[0]}=...: only studies=NAME,NAME; everything else stands in config.yaml"
        )
    if "studies" not in config:
        return [
            name for name, study in STUDIES.items() if GPU or study.without_gpu == "run"
        ]
    names = configuration.names_asked(config["studies"])
    if not names:
        raise WorkflowError(
            f"--config studies=: no study is named; known: {', '.join(STUDIES)}"
        )
    for name in names:
        if name not in STUDIES:
            raise WorkflowError(
                f"--config studies: unknown study {name!r}{configuration.did_you_mean(name, STUDIES)}"
            )
    return names


def records_of(names: list[str]) -> list[str]:
    return [
        str(run.path)
        for run in {
            run.id: run for name in names for run in STUDIES[name].runs
        }.values()
    ]


def run_of(wildcards) -> spec.Run:
    return RUNS[
        f"{wildcards.recipe}/{wildcards.arch}/{wildcards.variant}/eps{wildcards.epsilon}/seed{wildcards.seed}"
    ]


def resolved(wildcards) -> str:
    """Sorted JSON of all that decides the run's numbers: when it changes, and only then, the run is trained again."""
    return run_of(wildcards).json()


def budget(wildcards) -> str:
    """What decides the noise multiplier of a recipe at an epsilon; no text for one that no study has: the command refuses."""
    run = BUDGETS.get((wildcards.recipe, wildcards.epsilon))
    return json.dumps(run.budget(), sort_keys=True) if run else ""


def dataset_spec(wildcards) -> str:
    """What decides the data: the keys but for the path, and what the files at the path hold."""
    keys = CONFIG["datasets"][wildcards.dataset]
    held = source.remembered(wildcards.dataset, keys)
    keys = {key: value for key, value in keys.items() if key != "path"}
    return json.dumps(keys | {"holds": held}, sort_keys=True)


def dataset_of(wildcards) -> str:
    return f"results/datasets/{CONFIG['recipes'][wildcards.recipe]['dataset']}.json"


def table_spec() -> str:
    """What decides the tables beside the records."""
    return json.dumps(
        {key: CONFIG[key] for key in ("studies", "claims")}, sort_keys=True
    )


def committed(name: str) -> list[str]:
    """The committed table of that name, where there is one."""
    return [
        path
        for path in sources(f"results/reference/{name}.csv")
        if os.path.exists(path)
    ]


def runs_to_verify(wildcards) -> list[str]:
    """Records of study quick, which are not worth training without committed results to compare them with."""
    if not committed("runs"):
        raise WorkflowError(
            "results/reference/runs.csv: no results are committed, so there is nothing to verify against; "
            "`python -m bench promote --study quick` and `python -m bench reference` make them from a finished run"
        )
    if "quick" not in STUDIES:
        raise WorkflowError(
            "config.yaml has no study quick, which is what `verify` runs"
        )
    return records_of(["quick"])


def below(folder: str, *kinds: str) -> list[str]:
    """The repository's files of these kinds below a folder."""
    files = sorted((bench.ROOT / folder).rglob("*"))
    return [str(path.relative_to(bench.ROOT)) for path in files if path.suffix in kinds]


def sources(*names: str) -> list[str]:
    return [os.path.normpath(os.path.join(REPO, name)) for name in names]


not_run = [name for name in STUDIES if name not in selected()]
if not_run:
    logger.info(
        f"Studies not asked for here: {', '.join(not_run)} (`python -m bench check` says why)"
    )
