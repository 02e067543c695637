"""What a crate says about itself, and what an import says about its records."""

from bench.report.words import count, plural


def runs(number: int) -> str:
    return count(number, "run", "runs")


def facts(taken: list[dict], studies: list[str], author: str | None) -> dict:
    """What `crate.write` needs to know of the records."""
    made_by = [record["provenance"] for record in taken]
    return {
        "title": f"ScaleNorm Bench: {runs(len(taken))} of {', '.join(studies)}",
        "description": "Variants of residual networks trained with differential privacy, over seeds and epsilons.",
        "studies": studies,
        "author": author,
        "commits": sorted({provenance["commit"] for provenance in made_by}),
        "started": min(provenance["started"] for provenance in made_by),
        "finished": max(provenance["finished"] for provenance in made_by),
    }


def readme(facts: dict) -> str:
    return f"""# {facts["title"]}

{facts["description"]} Made by ScaleNorm Bench at commit {", ".join(facts["commits"])}.

- `records.jsonl`: a line a run. A record alone says what was run, on what, and what came out; `bench import` checks it.
- `runs.csv`: a row a run, accuracies in percent. Column `epsilon` is text: `pandas.read_csv(..., dtype={{"epsilon": str}})`.
- `summary.csv`: a row a study and arm (recipe, arch, variant, epsilon), with paired differences and intervals.
- `config.yaml`, `Snakefile`, `workflow/rules`: the configuration, and the workflow that makes records of it.
- `ro-crate-metadata.json`: the same for machines, a Workflow Run RO-Crate.

What the columns mean stands in the suite's report. The suite's licence, MIT, holds for all of it.
"""


def agreement(found: dict | None) -> str:
    """One sentence on what `compare.beside` found."""
    if found is None:
        return "no arm of it was run here, so there is nothing to compare"
    different = len(found["different"])
    compared = count(found["arms"], "arm", "arms")
    return f"{compared} compared with ours, {different or 'no'} {plural(different, 'difference', 'differences')}"
