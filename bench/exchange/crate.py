"""A Workflow Run RO-Crate (w3id.org/ro/wfrun/workflow/0.5): a folder of results that says what made it, for machines too."""

from pathlib import Path
from typing import Any

from bench import ROOT, BenchError

METADATA = "ro-crate-metadata.json"
PACKAGE = "rocrate==0.16.0"
VALIDATOR = "roc-validator==0.13.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
# name in the crate -> (encodingFormat, what it is)
TYPES = {
    "README.md": ("text/markdown", "What the files are and how they are read"),
    "config.yaml": ("application/yaml", "Networks, variants, data sets, recipes, studies and claims"),
    "records.jsonl": (
        "application/jsonl",
        "A line a run: its specification, results, curve, privacy statement, machine, commit",
    ),
    "runs.csv": ("text/csv", "A row a run (long, tidy)"),
    "summary.csv": ("text/csv", "A row a study and arm: means over seeds, paired differences, intervals"),
}
RESULTS = ("records.jsonl", "runs.csv", "summary.csv")
WORKFLOW = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
LICENSE = "https://spdx.org/licenses/MIT"


def write(folder: Path, files: dict[str, Path], workflow: list[str], facts: dict[str, Any]) -> None:
    """Fills the new `folder` with `files`, {name in the crate: file}, the `workflow`'s (below ROOT), and what describes them.

    The workflow's first file is its main one. `facts`: title, description, author (None: not told), commits, started and
    finished of the runs (ISO 8601). BenchError where rocrate is not installed.
    """
    try:
        from rocrate.model.contextentity import ContextEntity
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise BenchError(f"a crate needs the package rocrate, which is not installed; `pip install {PACKAGE}`") from None

    crate = ROCrate(gen_preview=False, version="1.1")

    def entity(address: str, kind: str, **properties) -> ContextEntity:
        return crate.add(ContextEntity(crate, address, properties={"@type": kind} | properties))

    license = entity(LICENSE, "CreativeWork", name="MIT License", identifier=LICENSE)
    authors = entity("#authors", "Organization", name="The ScaleNorm Bench authors")
    exporter = entity("#exporter", "Person", name=facts["author"]) if facts["author"] else None
    profiles = [entity(url, "CreativeWork", name=name, version=number) for url, (name, number) in PROFILES.items()]
    main, *parts = workflow
    code = {"version": ", ".join(facts["commits"]), "encodingFormat": "text/plain"}
    text = {"description": "The workflow of ScaleNorm Bench"}
    snakefile = crate.add_workflow(ROOT / main, main, main=True, lang="snakemake", properties=code | text)
    snakefile["author"], snakefile["license"] = authors, license
    snakefile["conformsTo"] = entity(WORKFLOW, "CreativeWork", name="ComputationalWorkflow", version="1.0-RELEASE")
    snakefile["hasPart"] = [
        crate.add_file(ROOT / name, name, properties=code | {"@type": ["File", "SoftwareSourceCode"], "name": name})
        for name in parts
    ]
    made = {}
    for name, path in files.items():
        kind, text = TYPES[name]
        made[name] = crate.add_file(path, name, properties={"name": name, "encodingFormat": kind, "description": text})
    inputs = entity(
        "#config",
        "FormalParameter",
        name="config",
        additionalType="File",
        valueRequired=True,
        description=TYPES["config.yaml"][1],
    )
    outputs = [
        entity(f"#{name}", "FormalParameter", name=name, additionalType="File", description=TYPES[name][1])
        for name in RESULTS
    ]
    made["README.md"]["about"] = crate.root_dataset
    made["config.yaml"]["exampleOfWork"] = inputs
    for name, output in zip(RESULTS, outputs, strict=True):
        made[name]["exampleOfWork"] = output
    snakefile["input"], snakefile["output"] = inputs, outputs
    action = entity(
        "#runs",
        "CreateAction",
        name=facts["title"],
        description=f"Commits of the suite: {', '.join(facts['commits'])}",
        startTime=facts["started"],
        endTime=facts["finished"],
        actionStatus="http://schema.org/CompletedActionStatus",
    )
    action["instrument"], action["object"] = snakefile, made["config.yaml"]
    action["result"] = [made[name] for name in RESULTS]

    crate.name, crate.description = facts["title"], facts["description"]
    crate.root_dataset["datePublished"] = facts["finished"]  # and no clock: of the same records the same crate
    crate.root_dataset["license"] = license
    if exporter:
        action["agent"] = crate.root_dataset["author"] = exporter
    crate.root_dataset["conformsTo"], crate.root_dataset["mentions"] = profiles, action
    crate.write(folder)
