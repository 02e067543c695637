"""The speed table: what is timed where, in what time, and that no row is lost."""

import csv
import os
import time

import pytest
import torch

from bench.speed import __main__ as script
from bench.speed import table
from bench.speed.step import Case

CPU = torch.device("cpu")
TINY = Case("resnet9-w8", 2)


@pytest.fixture
def quick(monkeypatch):
    """Steps that do nothing and processes that are not started."""
    monkeypatch.setattr(table, "make_step", lambda *arm: lambda: None)
    monkeypatch.setattr(table, "_peak_on_a_cpu", lambda *arm: 1.0)


def test_ours_are_timed_in_every_precision_and_the_others_in_float32():
    arms = table.arms_of(TINY, "cuda")
    assert arms[:3] == [("not-private", "baseline"), ("fast", "baseline"), ("fast", "scalenorm")]
    assert {"fast-deterministic", "opacus-hooks", "book-keeping", "vmap"} < {engine for engine, _ in arms}
    assert all(engine.startswith(("not", "fast")) for engine, _ in table.arms_of(TINY._replace(precision="bf16"), "cuda"))
    assert "opacus-ghost" not in dict(table.arms_of(TINY._replace(views=4), "cpu"))
    assert "fast-deterministic" not in dict(table.arms_of(TINY, "cpu"))


def test_a_case_of_a_gpu_ends_in_its_time(quick, monkeypatch):
    """Steps of 10 s each on a clock of our own: the last arms and all rounds but the first are left out, and it says so."""
    clock = [0.0]
    monkeypatch.setattr(table.time, "monotonic", lambda: clock[0])
    monkeypatch.setitem(table.LIMIT, "cpu", 100.0)

    def step() -> None:
        clock[0] += 10

    monkeypatch.setattr(table, "make_step", lambda *arm: step)
    said = []
    rows = table.rows_of(TINY, CPU, 1, said.append)
    arms = [(row["engine"], row["variant"]) for row in rows]
    assert arms == table.arms_of(TINY, "cpu")[:3]
    assert said[-1] == "resnet9-w8-2-1-float32: 1 of 5 rounds, no time"
    assert said[0] == "resnet9-w8-2-1-float32: opacus-hooks left out, no time"
    assert clock[0] == 3 * (table.WARM_UP + 1) * 10


def test_a_ratio_is_a_median_of_rounds_and_has_their_spread():
    row = table._row(TINY, ("fast", "baseline"), [1.2, 3.3, 2.0], [1.0, 3.0, 1.0])
    assert (row["ratio_to_nonprivate"], row["ratio_low"], row["ratio_high"]) == (1.2, 1.1, 2.0)


def test_an_engine_that_fails_costs_its_row_only(quick, monkeypatch):
    def make_step(engine, *rest):
        if engine == "vmap":
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return lambda: None

    monkeypatch.setattr(table, "make_step", make_step)
    said = []
    engines = {row["engine"] for row in table.rows_of(TINY, CPU, 1, said.append)}
    assert engines == {engine for engine, _ in table.arms_of(TINY, "cpu")} - {"vmap"}
    assert said == ["resnet9-w8-2-1-float32: vmap left out: CUDA out of memory."]


def test_rows_survive_an_interruption_and_are_not_made_twice(tmp_path, monkeypatch, capsys):
    out = tmp_path / "speed.csv"
    timed = []

    def rows_of(case, device, threads, memory):
        if len(timed) == 1:
            timed.append("interrupted")
            raise KeyboardInterrupt
        timed.append(case)
        keys = {"arch": case.arch, "physical_batch": case.samples, "views": case.views, "precision": case.precision}
        return [{"device": table.device_name(device), "threads": threads} | keys | {"engine": "fast", "img_per_s": 1.5}]

    monkeypatch.setattr(table, "rows_of", rows_of)
    arguments = ["speed", "--out", str(out), "--threads", "1", "--case", "resnet9-w8:2", "wrn16-4:2:4:bf16"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(KeyboardInterrupt):
        script.main()
    assert len(out.read_text().splitlines()) == 2
    script.main()
    assert timed == [Case("resnet9-w8", 2), "interrupted", Case("wrn16-4", 2, 4, "bf16")]
    assert "1 of 2: resnet9-w8-2-1-float32: known" in capsys.readouterr().out
    with out.open(newline="") as file:
        assert [row["arch"] for row in csv.DictReader(file)] == ["resnet9-w8", "wrn16-4"]


def test_rows_of_older_sources_are_made_anew(tmp_path):
    path = tmp_path / "speed.csv"
    script.write([{"engine": "fast"}], path)
    assert script.read(path) == [{"engine": "fast"}]
    os.utime(path, (time.time() - 10**9,) * 2)
    assert script.read(path) == []
    assert script.read(tmp_path / "none.csv") == []


def test_the_peak_on_a_gpu_is_that_of_the_arm_alone(monkeypatch):
    """An allocator of our own: other arms hold 512 MiB, the network 64, a step reaches 256 above both."""
    held = {"now": 512, "peak": 10_000}  # the peak of an arm before

    def take(amount: int) -> None:
        held["now"] += amount
        held["peak"] = max(held["peak"], held["now"])

    def step() -> None:
        take(256)
        take(-256)

    monkeypatch.setattr(table, "make_step", lambda *arm: take(64) or step)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: held.update(peak=held["now"]))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: held["now"] * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: held["peak"] * 2**20)
    made, peak = table._warm(("fast", "baseline"), TINY, torch.device("cuda"))
    assert (made, peak) == (step, 64 + 256)
