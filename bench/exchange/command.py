"""What `bench export` and `bench import` do: a crate of finished runs; records of others, checked and kept under a label."""

import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from bench import ROOT, BenchError
from bench.evidence import columns, compare, imported, records, tables
from bench.exchange import crate, words
from bench.plan import config as configuration
from bench.plan import resolve, spec
from bench.report import reference as committed
from bench.terminal import command

LARGEST = 2**30  # bytes of records in a .zip, which may promise any number
WORKFLOW = ("Snakefile", "workflow/rules")


def export(config: Path, study: tuple[str, ...], reference: bool, author: str | None, validate: bool, out: Path) -> int:
    """Writes the crate `out` of finished runs here, or of the committed ones; 1 where `validate` finds it not valid."""
    content = configuration.load(config)
    made, taken = _tables(content, _chosen(content, study), committed.read() if reference else None)
    if not taken:
        where = f"no {committed.RECORDS} has any" if reference else f"`{command('run', *study[:1])}` makes them"
        raise BenchError(f"no finished runs of these studies: {where}")
    if out.exists() and not (out / crate.METADATA).exists():
        raise BenchError(f"{out}: exists and is no crate, so it is not replaced; name another place with --out")
    facts = words.facts(taken, list(dict.fromkeys(made["summary"]["study"])), author)
    with tempfile.TemporaryDirectory() as folder:
        texts = {
            "README.md": words.readme(facts),
            "config.yaml": config.read_text(encoding="utf-8"),
            "records.jsonl": records.lines(taken),
            "runs.csv": tables.text(made["runs"]),
            "summary.csv": tables.text(made["summary"]),
        }
        files = {name: Path(folder) / name for name in texts}
        for name, text in texts.items():
            files[name].write_text(text, encoding="utf-8")
        _replace(out, lambda partial: crate.write(partial, files, _workflow(), facts))
    print(f"{out}: {words.runs(len(taken))} of {', '.join(facts['studies'])}")
    print(f"elsewhere, `bench import {out} --label NAME` takes them in")
    return _validate(out) if validate else 0


def take_in(config: Path, path: Path, label: str) -> None:
    """Keeps the records at `path`, a crate or a file of records, as results/imported/LABEL.jsonl; ours are not touched."""
    from bench.training import recomputed

    studies = resolve.studies_of(configuration.load(config))
    found = records.parse_lines(_text(path), str(path), "ask its maker for the file that `bench export` wrote")
    by_id = {record["run"]["id"]: record for record in found}
    if len(by_id) < len(found):
        raise BenchError(f"{path}: {len(found)} records of {words.runs(len(by_id))}: one of each is expected")
    outside = set(committed.plan(studies, by_id)[1])
    kept = [record for name, record in by_id.items() if name not in outside]
    problems = [problem for record in kept for problem in recomputed.disagreements(record)]
    if problems:
        raise BenchError("\n".join([*problems[:20], f"{path}: {len(problems)} contradictions; nothing was taken in"]))
    if outside:
        print(
            f"{len(outside)} of {words.runs(len(found))} are left out, {min(outside)!r} for one: "
            f"no study of {config} plans them"
        )
    if not kept:
        raise BenchError(f"{path}: none of its {words.runs(len(found))} is of a study of {config}, so nothing was taken in")
    target, text = imported.path_of(label), records.lines(kept)
    if target.exists() and target.read_text() != text:
        raise BenchError(f"{target}: other records have this label; choose another one, or delete them")
    records.write_text(text, target)
    table, runs = target.with_suffix(".csv"), tables.reread(columns.frame(kept))
    records.write_text(tables.text(runs), table)
    print(f"{target}: {words.runs(len(kept))}, beside ours in the next report; no mean and no claim counts them")
    if (ours := Path("results/runs.csv")).exists():
        print(words.agreement(compare.beside(tables.read(ours, "run `summarise`"), runs)))
    print(f"`{command('compare', 'results/runs.csv', str(table))}` says what differs")


def _chosen(content: dict, names: tuple[str, ...]) -> dict[str, spec.Study]:
    return {name: resolve.study_of(content, name) for name in names} if names else resolve.studies_of(content)


def _tables(content: dict, studies: dict, by_id: dict[str, dict] | None) -> tuple[dict, list[dict]]:
    """(the tables, the records that they are of) from `by_id`, or from the runs that have finished here."""
    taken: dict[str, dict] = {}

    def collect(runs: list[spec.Run]) -> tuple[list[dict], dict[str, str]]:
        found, missing = records.collect(runs) if by_id is None else records.match(runs, by_id)
        taken.update({record["run"]["id"]: record for record in found})
        return found, missing

    if by_id is not None:
        studies, _ = committed.plan(studies, by_id)
    made = tables.build(content, studies, collect, lambda study, missing: "")
    return made, list(taken.values())


def _workflow() -> list[str]:
    main, rules = WORKFLOW
    return [main, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / rules).glob("*.smk"))]


def _replace(out: Path, write) -> None:
    """Lets `write` fill a folder that then takes the place of `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (out.with_name(f".{out.name}.{kind}") for kind in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        write(partial)
        if out.exists():
            out.rename(old)
        partial.rename(out)
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


def _text(path: Path) -> str:
    """What records.jsonl holds, in a folder, in a .zip archive, or as the file itself."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if Path(member.filename).name == "records.jsonl"]
                if len(members) != 1 or members[0].file_size > LARGEST:
                    raise BenchError(f"{path}: {len(members)} files records.jsonl in it; one, below 1 GiB, is expected")
                return archive.read(members[0]).decode()
        return (path / "records.jsonl" if path.is_dir() else path).read_text(encoding="utf-8")
    # of an archive with a password, and of one whose compression is not known here, the last two
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise BenchError(
            f"{path}: cannot be read ({error}); a crate of `bench export` or its records.jsonl is expected"
        ) from None


def _validate(out: Path) -> int:
    """Exit code of the profile's own validator, which says what it finds."""
    program = shutil.which("rocrate-validator")
    if program is None:
        raise BenchError(
            f"{out} is written, but rocrate-validator is not on the path; `pip install {crate.VALIDATOR}` (in an environment "
            "of its own: it wants an older rich) brings it"
        )
    options = ("--profile-identifier", "workflow-run-crate", "--verbose", "--no-paging")
    return min(1, subprocess.run([program, "--no-interactive", "validate", *options, str(out)], check=False).returncode)
