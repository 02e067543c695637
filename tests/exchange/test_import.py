"""Records of others: what is let in, what it is compared with, and that no number of ours moves by it."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bench.__main__ import main
from bench.evidence import imported, records
from bench.plan import resolve
from tests.exchange.factory import finished, honest
from tests.report.test_page import Page


@pytest.fixture(scope="module")
def theirs(_shipped):
    """Whole records of study quick at its first two seeds, made by somebody else."""
    runs = [run for run in resolve.studies_of(_shipped)["quick"].runs if run.seed < 2]
    return [honest(run, right=250 + 5 * run.seed + 10 * (run.variant == "scalenorm")) for run in runs]


@pytest.fixture
def folder(shipped, theirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped["studies"] = {"quick": shipped["studies"]["quick"] | {"seeds": 2}}
    shipped["claims"] = {}
    Path("config.yaml").write_text(yaml.safe_dump(shipped))
    Path("theirs.jsonl").write_text(records.lines(theirs))
    return tmp_path


def test_export_and_import_are_each_others_inverse_to_the_byte(folder, theirs):
    pytest.importorskip("rocrate")
    for record in theirs:
        records.write(record, Path(f"results/runs/{record['run']['id']}.json"))
    assert main(["export"]) == 0
    assert main(["import", "results/export", "--label", "back"]) == 0
    assert Path("results/imported/back.jsonl").read_bytes() == Path("results/export/records.jsonl").read_bytes()
    assert imported.read() == {"back": records.read_lines(Path("theirs.jsonl"))}
    back, ours = (Path(path).read_text().splitlines() for path in ("results/imported/back.csv", "results/export/runs.csv"))
    assert sorted(back) == sorted(ours)


def test_a_zip_of_a_crate_is_read_and_not_unpacked(folder):
    with zipfile.ZipFile("crate.zip", "w") as archive:
        archive.write("theirs.jsonl", "export/records.jsonl")
        archive.writestr("../escaped.txt", "1")
    assert main(["import", "crate.zip", "--label", "zipped"]) == 0
    assert Path("results/imported/zipped.jsonl").read_bytes() == Path("theirs.jsonl").read_bytes()
    assert not Path("../escaped.txt").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda r: r["result"].update(accuracy=99.0), "result.accuracy: 99.0, and"),
        (lambda r: r["privacy"].update(epsilon_rdp=0.1), "privacy.epsilon_rdp: 0.1, and"),
        (lambda r: r["privacy"].update(noise_multiplier=9.0), "privacy.epsilon_rdp: "),
        (lambda r: r["data"].pop("digest"), "theirs.jsonl:1: damaged record (data.digest"),
        (lambda r: r.update(format=2), "theirs.jsonl:1: record format 2, this version reads 1"),
    ],
)
def test_contradictions_are_refused_and_nothing_is_taken_in(folder, theirs, capsys, change, expected):
    made = json.loads(records.lines(theirs).splitlines()[0])
    change(made)
    Path("theirs.jsonl").write_text("\n".join([json.dumps(made), *records.lines(theirs).splitlines()[1:]]))
    assert main(["import", "theirs.jsonl", "--label", "false"]) == 1
    assert expected in capsys.readouterr().err
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x80\x04\x95\x0b\x00\x00\x00cos\nsystem\n", "theirs.jsonl: cannot be read"),  # a pickle
        (b"[1]\n", "theirs.jsonl:1: damaged record"),
        (b"", "none of its 0 runs is of a study of config.yaml, so nothing was taken in"),
    ],
)
def test_what_is_no_file_of_records_is_refused(folder, capsys, content, expected):
    Path("theirs.jsonl").write_bytes(content)
    assert main(["import", "theirs.jsonl", "--label", "none"]) == 1
    assert expected in capsys.readouterr().err


def test_runs_of_another_configuration_are_left_out_and_said(folder, theirs, capsys):
    other = json.loads(json.dumps(theirs[0]))
    other["run"]["recipe"]["steps"] += 1
    Path("theirs.jsonl").write_text(records.lines([other, *theirs[1:]]))
    assert main(["import", "theirs.jsonl", "--label", "part"]) == 0
    said = capsys.readouterr().out
    assert f"1 of {len(theirs)} runs are left out, {other['run']['id']!r} for one: no study of config.yaml plans them" in said
    assert len(imported.read()["part"]) == len(theirs) - 1


def test_a_run_stands_once_and_a_label_keeps_what_it_has(folder, theirs, capsys):
    Path("twice.jsonl").write_text(records.lines([*theirs, theirs[0]]))
    assert main(["import", "twice.jsonl", "--label", "twice"]) == 1
    assert "one of each is expected" in capsys.readouterr().err
    assert main(["import", "theirs.jsonl", "--label", "kept"]) == 0
    assert main(["import", "theirs.jsonl", "--label", "kept"]) == 0
    Path("fewer.jsonl").write_text(records.lines(theirs[1:]))
    assert main(["import", "fewer.jsonl", "--label", "kept"]) == 1
    assert "other records have this label" in capsys.readouterr().err
    assert Path("results/imported/kept.jsonl").read_bytes() == Path("theirs.jsonl").read_bytes()
    with pytest.raises(SystemExit):
        main(["import", "theirs.jsonl", "--label", "../up"])
    assert "is no label" in capsys.readouterr().err


def test_the_report_shows_them_beside_ours_and_counts_none(folder, shipped, theirs, capsys):
    """Three seeds here, two there, ten points lower in one arm: the arm differs, and no table of ours changes by a byte."""
    shipped["studies"]["quick"] |= {"seeds": 3}
    Path("config.yaml").write_text(yaml.safe_dump(shipped))
    runs = resolve.studies_of(shipped)["quick"].runs
    finished(runs, lambda run: 30.0 + run.seed / 3 if run.variant == "scalenorm" and run.epsilon == 1 else 70.0 + run.seed)
    assert main(["summarise"]) == 0
    before = {path.name: path.read_bytes() for path in Path("results").glob("*.csv")}
    assert main(["report"]) == 0
    assert "imported" not in Page(Path("report/report.html").read_text()).ids

    assert main(["import", "theirs.jsonl", "--label", "zurich"]) == 0
    assert "arms compared with ours" in capsys.readouterr().out
    assert main(["summarise"]) == 0
    assert main(["report"]) == 0
    assert {path.name: path.read_bytes() for path in Path("results").glob("*.csv")} == before
    page = Page(Path("report/report.html").read_text())
    rows = {tuple(row[:4]): row for row in page.rows["imported"][1:]}
    assert len(rows) == len({(run.arch, run.variant, run.epsilon) for run in runs})
    row = rows["digits", "resnet9-w8", "scalenorm", "1"]
    right = pd.Series([260, 265]) * 100 / 360
    assert row[4] == f"{right.mean():.2f} ± {right.std():.2f}"
    assert row[6] == "2 beside 3"
    assert row[7] == f"+{right.mean() - 91 / 3:.2f}"
    assert "accuracy, %" in row[8]
    assert main(["compare", "results/runs.csv", "results/imported/zurich.csv"]) == 1
