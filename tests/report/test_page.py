"""The page as a reader gets it, from records made up for studies of several recipes, one of them not private."""

import contextlib
import math
import os
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml

from bench import ROOT
from bench.__main__ import main
from bench.evidence import records
from bench.plan import resolve
from bench.report import drawing, figures, formats
from bench.terminal import command
from tests.factory import record_of

SPEED = """device,threads,arch,variant,width,physical_batch,views,precision,engine,img_per_s,\
ratio_to_nonprivate,ratio_low,ratio_high,peak_mb
Test GPU,2,resnet9,baseline,64,64,1,float32,not-private,1000.0,1.0,1.0,1.0,200.0
Test GPU,2,resnet9,baseline,64,64,1,float32,fast,500.0,2.0,1.98,2.02,500.0
Test GPU,2,resnet9,scalenorm,64,64,1,float32,fast,470.0,2.1,2.07,2.13,540.0
Test GPU,2,resnet9,baseline,64,256,1,float32,not-private,1100.0,1.0,1.0,1.0,400.0
"""
AUDIT = """engine,case,seeds,alarms,verdict,test,claimed,audited,noise,shift,epsilon,epsilon_counted,epsilon_mu_gdp,\
epsilon_steinke,epsilon_clopper_pearson
fast,honest,100,1,passed,noise,1,1.0002,1.0002,1.0,8,8,4.8,1.5,4.2
fast,no noise,20,19,missed,noise,1,0,0,1.0,8,8,14.2,4.8,30.5
"""


class Page(HTMLParser):
    """Text of every table cell by section (the last id of a heading or section), and every address the page refers to."""

    VOID = ("meta", "br", "path", "use", "circle", "rect", "line", "input", "link", "img", "hr")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.rows, self.addresses, self.ids, self.section = [], {}, [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
            if tag in ("h2", "section"):
                self.section = attributes["id"]
        self.addresses += [value for key, value in attributes.items() if key in ("src", "href", "xlink:href", "data")]
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += data


@pytest.fixture
def folder(shipped, tmp_path, monkeypatch):
    """A working directory with the records of studies headline and learning-rate; quick has not been run."""
    keep = ("quick", "headline", "learning-rate")
    shipped["studies"] = {name: shipped["studies"][name] for name in keep}
    shipped["studies"]["headline"] |= {"archs": ["wrn40-4"], "seeds": 2}
    shipped["claims"] = {"headline-wrn40": shipped["claims"]["headline-wrn40"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped))
    studies = resolve.studies_of(shipped)
    for run in [*studies["headline"].runs, *studies["learning-rate"].runs]:
        gain = {"de-wrn": 2, "de-wrn-as-published": 1}.get(run.recipe_name, 0) if run.variant == "scalenorm" else 0
        record = record_of(run, 70.0 + run.seed % 7 + gain)
        if run.recipe["budget"] == "proxy":
            record["privacy"] |= {"private": False, "epsilon_rdp": 1234.4, "epsilon_pld": 1100.2}
        elif run.seed == 0:  # the others are as older versions wrote them
            record["result"]["accuracy_without_average"] = 60.5
            record["cost"]["resumed_at_step"] = 100
            record["provenance"] |= {"source_digest": "1" * 12, "commit": "1" * 40, "started": "2026-01-02T00:00:00+00:00"}
        records.write(record, tmp_path / run.path)
    (tmp_path / "results/speed.csv").write_text(SPEED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.report.page.REFERENCE", tmp_path / "reference")
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference/published.csv").write_text((ROOT / "results/reference/published.csv").read_text())
    return tmp_path


@pytest.fixture
def page(folder):
    assert main(["summarise"]) == 0
    assert main(["report"]) == 0
    text = " ".join((folder / "report/report.html").read_text().split())  # as a reader sees it: a line break is a space
    return text, Page(text)


def test_the_page_is_the_same_where_figures_are_drawn_in_other_processes(folder, page, monkeypatch):
    monkeypatch.setattr(drawing, "MANY", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(figures, "grid", None)  # nothing of a study can be drawn here; the others import their own
    assert main(["report"]) == 0
    assert " ".join((folder / "report/report.html").read_text().split()) == page[0]


def test_a_page_starts_no_more_processes_than_its_job_has_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)), raising=False)
    started = []

    def pool(processes, **_):
        started.append(processes)
        return contextlib.nullcontext()

    monkeypatch.setattr(drawing, "ProcessPoolExecutor", pool)
    for given in ("1", "2", "64", "0", ""):  # what Snakemake says for `threads`; of the last two nobody knows what they mean
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with drawing.drawing(5000):
            pass
    assert started == [2, 8, 8, 8]


def test_the_page_says_of_every_arm_its_recipe_and_whether_it_is_private(folder, page):
    text, parsed = page
    head, *rows = parsed.rows["study-headline"]
    assert (head[:3], head[-1]) == (["Variant", "ε", "Difference, points"], "ε spent, PLD")
    arms, seen, means = rows[:4], rows[5:7], rows[8:12]
    assert [row[0].split("#")[-1].strip() for row in arms] == [
        "de-wrn",
        "de-wrn",
        "de-wrn-as-published",
        "de-wrn-as-published",
    ]
    assert {row[-1] for row in means} == {"60.50"}
    assert [row[2].split()[0] for row in arms] == [formats.NOTHING, "+2.00", formats.NOTHING, "+1.00"]
    assert [row[0].split()[0] for row in seen] == ["scalenorm", "scalenorm"]
    assert not [row for row in rows if "not private" in " ".join(row)]

    rows = parsed.rows["study-learning-rate"][1:9]
    assert all("not private" in row[0] and row[-1] == "1,100" for row in rows)
    assert "last weights" not in text[text.index('id="study-learning-rate"') : text.index('id="privacy"')]
    for name, marked in (("headline", False), ("learning-rate", True)):
        assert ("not private" in text.split(f'<section id="study-{name}">')[1].split("</h3>")[0]) == marked
    assert "nominal ε = 8, not private" in (folder / "results/figures/learning-rate-curves.svg").read_text()

    ledger = {row[0]: row for row in parsed.rows["privacy"][1:]}
    assert ledger["proxy-lr-8 not private"][1:5] == ["proxy", "8", "1,234", "1,100"]
    assert ledger["de-wrn-as-published"][1] == "as published"
    assert any("scalenorm with de-wrn-as-published" in row[0] for row in parsed.rows["published"])
    assert "wrn40-4, recipe de-wrn, ε = 8, decided by 2 pairs" in text

    summary = pd.read_csv(folder / "results/summary.csv").groupby("study")["budget"].unique()
    assert set(summary["headline"]) == {"calibrated", "as-published"}
    assert set(summary["learning-rate"]) == {"proxy"}


@pytest.mark.parametrize("mechanism", [{"noise": False}, {"clip": False}])
def test_a_mechanism_taken_apart_is_marked_wherever_its_runs_stand(shipped, folder, mechanism):
    shipped["recipes"]["apart"] = shipped["recipes"]["digits"] | {"mechanism": mechanism}
    shipped["studies"]["quick"] |= {"recipe": "apart", "epsilons": [8], "variants": ["baseline", "scalenorm"], "seeds": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(shipped))
    for run in resolve.studies_of(shipped)["quick"].runs:
        record = record_of(run, 70.0)
        record["privacy"] |= {"private": False, "epsilon_rdp": math.inf, "epsilon_pld": math.inf, "clip_norm": math.inf}
        records.write(record, folder / run.path)
    assert main(["summarise"]) == 0
    assert main(["report"]) == 0
    text = " ".join((folder / "report/report.html").read_text().split())
    parsed = Page(text)
    assert all("not private" in row[0] for row in parsed.rows["study-quick"] if row[0] != "Variant")
    assert "This recipe clips without noise, or adds noise without clipping" in text
    ledger = {row[0]: row for row in parsed.rows["privacy"][1:]}
    assert ledger["apart not private"][2:5] == ["8", "∞", "∞"]
    marked = [row[0] for row in parsed.rows["provenance"] if row[0].startswith("apart/")]
    assert len(marked) == 4
    assert all("not private" in cell for cell in marked)
    assert "nominal ε = 8, not private" in (folder / "results/figures/quick-curves.svg").read_text()
    for name in ("runs", "summary"):
        table = pd.read_csv(folder / f"results/{name}.csv")
        assert not table.loc[table["recipe"] == "apart", "private"].any()
        assert table.loc[table["recipe"] == "de-wrn", "private"].all()


def test_the_page_says_where_the_loss_comes_from(shipped, folder):
    """90 without either part, 88 and 87 with one, 80 with both, two points more with ScaleNorm, a point from seed to seed."""
    for name, parts in (("clip-only", {"noise": False}), ("noise-only", {"clip": False})):
        shipped["recipes"][name] = shipped["recipes"]["digits"] | {"mechanism": parts}
    shipped["studies"]["quick"] |= {"recipe": ["digits", "clip-only", "noise-only"], "epsilons": [8, math.inf]}
    shipped["studies"]["quick"] |= {"variants": ["baseline", "scalenorm"], "seeds": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(shipped))
    for run in resolve.studies_of(shipped)["quick"].runs:
        accuracy = {"clip-only": 88, "noise-only": 87}.get(run.recipe_name, 80 if run.epsilon == 8 else 90)
        records.write(record_of(run, accuracy + run.seed + 2.0 * (run.variant == "scalenorm")), folder / run.path)
    assert main(["summarise"]) == 0
    assert main(["report"]) == 0
    rows = Page((folder / "report/report.html").read_text()).rows["study-quick"]
    (start,) = [place for place, row in enumerate(rows) if row[0] == "Lost to"]
    lost = [["loss", "+10.00"], ["clipping", "+4.50"], ["noise", "+5.50"], ["together", "+5.00"]]
    assert [row[:2] for row in rows[start + 2 : start + 6]] == lost
    assert rows[start + 1][0].split() == ["baseline,", "ε", "=", "8"]
    assert [row[1] for row in rows[start + 12 : start + 16]] == ["0.00"] * 4  # scalenorm - baseline


def test_the_page_says_what_was_not_made_alike(page):
    text, parsed = page
    assert "Study headline: not all runs were made by the same code. 4 runs by sources <code>000000000000</code>" in text
    assert "; 4 runs by sources <code>111111111111</code> (commit 1111111111, from 2026-01-02)" in text
    assert "Study learning-rate: not all runs" not in text
    assert "by 2 states of the sources; 4 resumed from a checkpoint" in text
    absent = text[text.index('id="not-run"') :]
    assert '<a href="#recipe-quick">quick</a> (128 of 128)' in absent
    assert f"<code>{command('run', 'STUDY')}</code>" in absent
    assert "study-quick" not in parsed.ids
    for setting in ("de-wrn: 16 views of an image are one sample (crop-flip, symmetric padding)", "decay 0.9999"):
        assert setting in text
    assert "By the runs of learning-rate, which are not private." in text
    assert "*id0" not in text  # YAML aliases


def test_the_page_is_one_whole_file(page):
    text, parsed = page
    assert [address for address in parsed.addresses if not address.startswith(("#", "data:", "https://arxiv.org/abs/"))] == []
    assert "@import" not in text
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {address[1:] for address in parsed.addresses if address.startswith("#")} <= set(parsed.ids)


def test_a_claim_that_came_after_the_tables_needs_them_again(folder, capsys):
    assert main(["summarise"]) == 0
    (folder / "results/claims.csv").write_text("name\n")
    assert main(["report"]) == 1
    assert "results/claims.csv: claim headline-wrn40 is missing; run `python -m bench summarise`" in capsys.readouterr().err


def test_faults_at_random_moments_are_shown_where_they_are_committed(folder, page):
    assert "killed" not in page[1].rows
    table = "kind,finished_before,states_left,equal\nSIGKILL,2,1,True\nSIGTERM,0,0,True\nSIGKILL,1,0,False\n"
    (folder / "reference/kill-points.csv").write_text(table)
    assert main(["report"]) == 0
    rows = Page((folder / "report/report.html").read_text()).rows["killed"]
    assert rows[1:] == [["SIGKILL", "1 of 2", "3", "1"], ["SIGTERM", "1 of 1", "0", "0"], ["all of them", "2 of 3", "3", "1"]]


def test_the_audit_is_shown_where_it_is_committed(folder, page):
    assert "audit" not in page[1].rows
    (folder / "reference/audit.csv").write_text(AUDIT)
    assert main(["report"]) == 0
    rows = Page((folder / "report/report.html").read_text()).rows["audit"]
    assert [row[0] for row in rows] == ["Case", "engine fast", "honest", "no noise"]
    assert rows[2][1:6] == ["✓ passed", "1 of 100", "noise", "1.00", "1.00"]
    assert rows[3][1:6] == ["✗ missed", "19 of 20", "noise", "1.00", "0.00"]


def test_speed_is_relative_and_by_case(page):
    rows = page[1].rows["speed"]
    assert rows[1][0].startswith("resnet9 (width 64), 64 images, float32; Test GPU, 2 threads")
    assert "ScaleNorm with the fast engine: +5.0 % time, +40 MB." in rows[1][0]
    assert rows[3] == ["fast", "baseline", "2.00", "[1.98, 2.02]", "2.50", "500", "500"]
    assert "ScaleNorm" not in rows[5][0]


def test_numbers():
    numbers = (2.671, 3, 999.7, 1234.4, 12345.6, 0, math.inf, "8")
    assert " ".join(map(formats.significant, numbers)) == "2.67 3.00 1,000 1,234 12,346 0.00 ∞ 8.00"
    assert [formats.significant(value) for value in (-0.5, 1e-5)] == [f"{formats.MINUS}0.500", f"1.00e{formats.MINUS}5"]
    assert formats.significant(None) == formats.NOTHING
