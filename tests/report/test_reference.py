"""The committed results: what is taken in, what is derived, and that the two agree in this repository."""

import copy
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import bench.report.page  # noqa: F401 - it reads ROOT when imported, which a test here moves
from bench import ROOT, BenchError, machine
from bench.__main__ import main
from bench.evidence import images, records, tables
from bench.plan import resolve, spec
from bench.report import downloads, reference, snippets
from bench.training.recipe import noise_of
from tests.factory import record_of

CONFIG = ROOT / "config.yaml"


def promoted(runs, accuracy=lambda run: 70.0 + run.seed) -> list[dict]:
    """Records of `runs` as files hold them."""
    made = [records._finite({"format": records.FORMAT} | record_of(run, accuracy(run))) for run in runs]
    return json.loads(json.dumps(made))


@pytest.fixture
def root(tmp_path):
    """A repository without results whose documents quote study quick."""
    (tmp_path / reference.FOLDER).mkdir(parents=True)
    shutil.copy(ROOT / reference.FOLDER / "published.csv", tmp_path / reference.FOLDER)
    (tmp_path / "README.md").write_text("# Mine\n<!-- reference: verdicts -->\nold\n<!-- end -->\nEnd.\n")
    (tmp_path / "results/README.md").write_text("<!-- reference: summary quick --><!-- end -->\n")
    return tmp_path


@pytest.fixture
def made(quick):
    return promoted(quick.values(), lambda run: 70.0 + run.seed + (run.variant == "scalenorm"))


def test_the_committed_files_are_those_that_the_records_give():
    """After a change of records, claims, studies or documents: `python -m bench reference`, and commit what it writes.

    The page may be older than its template, but not than its numbers: it holds the very tables.
    """
    files, _ = reference.derived(CONFIG, page=False)
    for path, text in files.items():
        assert (ROOT / path).read_text() == text, path
    if reference.read():
        page = (ROOT / "report/reference.html").read_text()
        for name in reference.TABLES:
            assert downloads.address(files[reference.FOLDER / f"{name}.csv"]) in page, name


def test_committed_records_have_commits_and_one_line_each():
    by_id = reference.read()
    if by_id:
        assert (ROOT / reference.RECORDS).read_text() == records.lines(list(by_id.values()))
    assert not [name for name, r in by_id.items() if r["provenance"]["dirty"] or r["provenance"]["commit"] == "unknown"]


def test_promote_adds_replaces_and_keeps(root, made):
    assert reference.promote(made[:20], root) == {"added": 20}
    changed = copy.deepcopy(made[10:])
    changed[0]["result"]["accuracy"] = 71.5
    assert reference.promote(changed, root) == {"added": 16, "replaced": 1, "unchanged": 9}
    assert list(reference.read(root).values()) == sorted(made[:10] + changed, key=records._order)


def test_taking_results_in_makes_later_runs_of_no_uncommitted_source(root, made, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)

    monkeypatch.setattr("bench.machine.ROOT", root)
    reference.promote(made[:1], root)
    (root / "code.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    reference.promote(made, root)
    (root / "README.md").write_text("new")
    assert not machine.commit()[1]
    (root / "code.py").write_text("2")
    assert machine.commit()[1]


@pytest.mark.parametrize("dirty", [False, True])
def test_a_copy_without_git_keeps_its_provenance(tmp_path, monkeypatch, capsys, made, root, dirty):
    """And loses it with the first changed source; what a copy made is promoted like any other record."""
    home, copy_ = tmp_path / "home", tmp_path / "copy"
    for source in machine.RESULT_SOURCES:
        path = home / source if source.endswith(".py") else home / source / "code.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for arguments in (["init"], ["add", "."], ["commit", "-m", "all"]):
        subprocess.run(["git", "-C", str(home), *identity, *arguments], check=True, capture_output=True)
    if dirty:
        (home / "bench/source.py").write_text("2")
    monkeypatch.setattr(machine, "ROOT", home)
    head = machine.commit()
    assert main(["provenance"]) == 0
    said = capsys.readouterr().out
    assert head == (json.loads(said)["commit"], dirty)

    shutil.copytree(home, copy_, ignore=shutil.ignore_patterns(".git"))
    shutil.copytree(copy_, home / "of-something-else")
    monkeypatch.setattr(machine, "ROOT", home / "of-something-else")
    assert machine.commit() == ("unknown", False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(machine, "ROOT", copy_)
    assert machine.commit() == ("unknown", False)
    assert main(["provenance"]) == 1
    assert "no git repository" in capsys.readouterr().err
    (copy_ / machine.PROVENANCE).write_text(said)
    assert machine.commit() == head
    assert capsys.readouterr().err == ""
    made[0]["provenance"] |= dict(zip(("commit", "dirty"), machine.commit(), strict=True))
    if dirty:
        with pytest.raises(BenchError, match="1 of 36 records were made with uncommitted changes"):
            reference.promote(made, root)
    else:
        assert reference.promote(made, root) == {"added": 36}

    for text in ("{", "[]", '{"commit": "0", "dirty": false}'):
        (copy_ / machine.PROVENANCE).write_text(text)
        assert machine.commit() == ("unknown", False)
        assert "not what `bench provenance` prints" in capsys.readouterr().err
    (copy_ / machine.PROVENANCE).write_text(said)
    (copy_ / "bench/layers.py").write_text("3")
    assert machine.commit() == ("unknown", False)
    assert "it was made of other sources" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [{"dirty": True}, {"commit": "unknown"}])
def test_promote_refuses_what_no_commit_gives_back(root, made, fault):
    made[5]["provenance"] |= fault
    with pytest.raises(BenchError, match="1 of 36 records were made with uncommitted changes or outside git, digits/"):
        reference.promote(made, root)
    assert not (root / reference.RECORDS).exists()


def test_a_damaged_line_is_named(root, made):
    reference.promote(made, root)
    text = (root / reference.RECORDS).read_text()
    (root / reference.RECORDS).write_text(text.replace('{"cost"', '{"cast"', 3))
    with pytest.raises(BenchError, match=r"records\.jsonl:1: damaged record .*; restore the file with `git checkout`"):
        reference.read(root)


def test_everything_is_derived_from_the_records(root, made):
    reference.promote(made, root)
    files, outside = reference.derived(CONFIG, root)
    assert not outside
    names = ["results/reference/runs.csv", "results/reference/summary.csv", "results/reference/claims.csv"]
    names += ["results/reference/machines.json", "report/reference.html", "README.md", "results/README.md"]
    assert list(map(str, files)) == names
    assert len(files[Path(names[0])].splitlines()) == 37
    page = files[Path(names[4])]
    assert "<title>ScaleNorm Bench: reference report</title>" in page
    for figure in ("accuracy", "differences", "curves", "difference-curves", "mixing"):
        assert f'<svg id="quick-{figure}"' in page
    assert "| scalenorm | 8 | 3 | 72.00 | [69.52, 74.48] | +1.00 | [+1.00, +1.00] |" in files[Path(names[6])]
    assert files[Path("README.md")].startswith("# Mine\n<!-- reference: verdicts -->\n\n| claim | verdict |")
    assert "old" not in files[Path("README.md")]
    for path, text in files.items():
        records.write_text(text, root / path)
    assert reference.derived(CONFIG, root)[0] == files  # the same bytes, the documents' own snippets included


def test_the_page_states_energy_and_neighbouring_data_sets(root, made):
    made[0]["cost"]["joules"] = 7.2e6
    reference.promote(made, root)
    page = " ".join(reference.derived(CONFIG, root)[0][Path("report/reference.html")].split())
    assert "2.00 kWh in 1 run of 36, by the counter of the CPU package, which counts all that runs there" in page
    assert "Neighbouring data sets: zero-out: one sample counts or contributes nothing" in page


def test_without_records_only_the_documents_are_derived(root):
    files, outside = reference.derived(CONFIG, root)
    assert list(files) == list(reference.DOCUMENTS)
    assert all("No reference results yet." in text for text in files.values())
    assert not outside


def test_runs_that_the_configuration_does_not_plan_are_listed_only(root, made):
    made[3]["run"]["recipe"]["steps"] += 1
    made[4]["run"]["id"] = made[4]["run"]["id"].replace("baseline", "gone")
    reference.promote(made, root)
    files, outside = reference.derived(CONFIG, root)
    assert sorted(outside) == sorted(r["run"]["id"] for r in made[3:5])
    assert len(files[reference.FOLDER / "runs.csv"].splitlines()) == 35
    page = " ".join(files[Path("report/reference.html")].split())
    assert "2 committed runs belong to no study" in page
    commands = "<code>bench run STUDY</code>, then <code>bench promote --study STUDY</code>."
    assert re.search(rf"Committed from another configuration: 1 of \d+</b>: <a href=\"#recipe-quick\">.*?{commands}", page)


def test_another_copy_of_the_data_counts_and_is_named(root, shipped):
    overlay = shipped["datasets"]["cifar10"] | {"source": "image_folder", "label": "CIFAR-10 (JPEG copy)", "path": "/x"}
    shipped["datasets"]["cifar10"] = overlay
    runs = [run for run in resolve.studies_of(shipped)["claim"].runs if run.epsilon == 3]
    reference.promote(promoted(runs), root)
    files, outside = reference.derived(CONFIG, root)
    assert not outside
    assert files[reference.FOLDER / "summary.csv"].count("CIFAR-10 (JPEG copy)") == 2


def test_machines(made):
    made[0]["machine"] |= {"torch": "2.12.0"}
    made[1]["machine"] |= {"engine": "fast"}
    old, new = reference.machines(made)
    assert (old["torch"], old["runs"], new["runs"]) == ("2.12.0", {"opacus": 1}, {"fast": 1, "opacus": 34})
    assert (new["hours"], new["commits"]) == (0.097, ["0" * 40])


def test_speed_tables_are_replaced_by_device(root, tmp_path):
    for device, speed in (("A", 1), ("B", 2), ("A", 3)):
        (tmp_path / "speed.csv").write_text(f"device,engine,img_per_s\n{device},fast,{speed}\n")
        reference.promote_speed(tmp_path / "speed.csv", root)
    assert (root / reference.SPEED).read_text() == "device,engine,img_per_s\nB,fast,2\nA,fast,3\n"
    (root / "README.md").write_text("<!-- reference: speed --><!-- end -->")
    assert "| B | fast | 2 |\n| A | fast | 3 |" in reference.derived(CONFIG, root)[0][Path("README.md")]


def test_searches_are_quoted_best_first(root, made):
    (root / reference.FOLDER / "quick-search.jsonl").write_text(records.lines(made[:3]))
    (root / "README.md").write_text("<!-- reference: search quick --><!-- end -->")
    text = reference.derived(CONFIG, root, page=False)[0][Path("README.md")]
    assert text.index("| 192 | 80 | 0.004 | 1 | 2 | 72.00 |") < text.index("| 192 | 80 | 0.004 | 1 | 0 | 70.00 |")
    (root / "README.md").write_text("<!-- reference: search quik --><!-- end -->")
    with pytest.raises(BenchError, match=r"unknown search 'quik' \(did you mean 'quick'\?\)"):
        reference.derived(CONFIG, root, page=False)


def test_documents_mark_runs_that_are_not_private(shipped):
    runs = resolve.studies_of(shipped)["learning-rate"].runs
    studies, made, _ = reference.build(shipped, {run.id: record for run, record in zip(runs, promoted(runs), strict=True)})
    text = snippets.fill("<!-- reference: summary learning-rate --><!-- end -->", made, studies, "d.md")
    assert "| recipe | variant | ε |" in text
    assert text.count("(**not private**)") == 8
    assert "| proxy-lr-1 | scalenorm (**not private**) | 8 | 1 |" in text
    assert "Runs marked as not private have a nominal ε only." in text


def test_rates_are_chosen_by_the_training_loss(shipped):
    """The test accuracy of these runs grows with the rate; their training loss is least at 1e-3."""
    runs = resolve.studies_of(shipped)["learning-rate-pocket"].runs
    made = promoted(runs)
    for run, record in zip(runs, made, strict=True):
        rate = run.recipe["optimizer"]["lr"]
        record["curve"][-1]["train_loss"] = 1.5 + abs(rate - 1e-3)
        record["result"]["accuracy"] = 50 + 1000 * rate
    studies, tables, _ = reference.build(shipped, {run.id: record for run, record in zip(runs, made, strict=True)})
    text = snippets.fill("<!-- reference: rates learning-rate-pocket --><!-- end -->", tables, studies, "d.md")
    assert re.findall(r"\| (\S+) \| 8 \| (\S+) \| 4 \| 1.5000 \| 0.0000 \| lowest", text) == [
        ("baseline", "0.001"),
        ("scalenorm", "0.001"),
    ]


def test_documents_say_how_a_lead_goes_over_steps(root, made):
    ahead = {record["run"]["id"] for record in made if "/scalenorm/eps8/" in record["run"]["id"]}
    for record in made:
        for point, lead in zip(record["curve"], (4.0, 1.0), strict=True):
            point["accuracy"] = 60.0 + record["run"]["seed"] + (lead if record["run"]["id"] in ahead else 0.0)
    reference.promote(made, root)
    (root / "results/README.md").write_text("<!-- reference: curves quick -->\n<!-- end -->\n")
    text = reference.derived(CONFIG, root, page=False)[0][Path("results/README.md")]
    assert "| variant | ε | pairs | step 40 | step 80 |" in text
    assert "| scalenorm | 8 | 3 | +4.00 [+4.00, +4.00] | +1.00 [+1.00, +1.00] |" in text


def test_documents_say_what_clipping_and_noise_cost(shipped):
    runs = resolve.studies_of(shipped)["mechanism"].runs
    made, costs = promoted(runs), {"pocket": 6, "pocket-clip-only": 1, "pocket-noise-only": 3}
    for run, record in zip(runs, made, strict=True):
        cost = 0.0 if run.epsilon == math.inf else costs[run.recipe_name]
        record["result"]["accuracy"] = 70.0 + 0.1 * run.seed - cost
    studies, tables, _ = reference.build(shipped, {run.id: record for run, record in zip(runs, made, strict=True)})
    text = snippets.fill("<!-- reference: mechanism mechanism --><!-- end -->", tables, studies, "d.md")
    assert "| baseline | loss | 12 | +6.00 |" in text
    assert "| baseline | clipping | 12 | +2.00 |" in text
    assert "| scalenorm - baseline | noise | 12 | 0.00 |" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a\n<!-- reference: sumary quick --><!-- end -->",
            r"d\.md:2: .*: expected summary, pairing, mechanism, rates or curves STUDY, answer, studies, verdicts",
        ),
        ("<!-- reference: summary quik --><!-- end -->", r"d\.md:1: .*: unknown study 'quik' \(did you mean 'quick'\?\)"),
        ("<!-- reference: speed -->\n", r"d\.md:1: .*: no <!-- end --> follows"),
        ("<!-- reference: speed -->\n<!-- reference: speed -->", r"d\.md:2: .*: the mark before it has no end"),
        ("<!-- end -->", r"d\.md:1: .*: no mark stands before it"),
    ],
)
def test_wrong_marks_get_a_sentence(shipped, text, expected):
    studies, made, _ = reference.build(shipped, {})
    with pytest.raises(BenchError, match=expected):
        snippets.fill(text, made, studies, "d.md")


SPENT: dict[str, dict] = {}


def honest(record: dict, run: spec.Run) -> dict:
    """The record with the privacy statement and the image bits that `promote` finds when it computes them again."""
    budget = json.dumps(run.budget())
    if budget not in SPENT:
        SPENT[budget] = noise_of(run, 1437)
    record["privacy"] |= SPENT[budget] | {"private": math.isfinite(run.epsilon)}
    record["data"]["test_size"] = 1000
    record["result"]["correct"] = images.pack([number < 10 * record["result"]["accuracy"] for number in range(1000)])
    return record


def test_verbs(root, made, quick, monkeypatch, capsys):
    """promote, reference and compare from the command line, in a folder that is its own repository."""
    monkeypatch.chdir(root)
    monkeypatch.setattr("bench.ROOT", root)
    for function in (reference.read, reference.promote):
        monkeypatch.setattr(function, "__defaults__", (root,))
    monkeypatch.setattr(reference.derived, "__defaults__", (root,))
    (root / "config.yaml").write_text(CONFIG.read_text())
    assert main(["promote", "--study", "quick"]) == 1
    assert "study quick: no record here was made from this configuration" in capsys.readouterr().err
    for record, run in zip(made, quick.values(), strict=True):
        record["provenance"]["source_digest"] = str(run.seed) * 12
        records.write(honest(record, run), run.path)
    assert main(["promote", "--study", "quick"]) == 0
    printed = capsys.readouterr().out
    assert "quick: note: its runs were made with 3 states of the sources: 000000000000, 111111111111, 222222222222" in printed
    assert "results/reference/records.jsonl: 36 added, 0 replaced, 0 unchanged" in printed
    assert main(["reference"]) == 0
    assert main(["summarise"]) == 0
    pair = ["results/runs.csv", "results/reference/runs.csv", "--study", "quick"]
    assert main(["compare", *pair]) == 0
    assert "12 arms compared, no differences" in capsys.readouterr().out

    monkeypatch.setattr("bench.report.page.REFERENCE", root / reference.FOLDER)
    assert main(["report"]) == 0
    page = (root / "report/report.html").read_text()
    assert "<title>ScaleNorm Bench: report</title>" in page
    assert "Our committed reference: 36 runs" in page
    assert "quick-accuracy-reference" in page

    table = tables.read(root / pair[0], "")
    table.loc[(table["variant"] == "scalenorm") & (table["epsilon"] == "8"), "accuracy"] -= 15
    (root / "results/runs.csv").write_text(tables.text(table))
    assert main(["compare", *pair]) == 1
    assert "digits/resnet9-w8/scalenorm/eps8: accuracy, %: 57.00 (n = 3) against 72.00 (n = 3)" in capsys.readouterr().out
    assert main(["compare", *pair[:2], "--study", "pocket"]) == 1
    assert "no arm (recipe, arch, variant, epsilon) in common" in capsys.readouterr().err
    assert main(["compare", "results/none.csv", pair[1]]) == 1
    assert "results/none.csv: no such table" in capsys.readouterr().err
