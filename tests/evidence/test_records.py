import copy
import json
import math
import os
import re

import pytest

from bench import BenchError
from bench.evidence import columns, datasets, records
from bench.plan import resolve
from tests.factory import record_of


def test_what_is_written_is_read(tmp_path, quick):
    record = record_of(next(iter(quick.values())), accuracy=70.0)
    records.write(record, tmp_path / "a" / "record.json")
    assert records.read(tmp_path / "a" / "record.json") == json.loads(json.dumps({"format": 1} | record))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["record.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', "null", '{"format": 1, "status": "completed"}'])
def test_damaged_record(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(BenchError, match=r"record\.json: damaged record .*; delete the file and run again"):
        records.read(tmp_path / "record.json")


def test_truncated_record(tmp_path, quick):
    path = tmp_path / "record.json"
    records.write(record_of(next(iter(quick.values())), accuracy=70.0), path)
    whole = path.read_text()
    for length in range(0, len(whole) - 2, 97):
        path.write_text(whole[:length])
        with pytest.raises(BenchError, match="damaged record"):
            records.read(path)


@pytest.mark.parametrize("value", [None, True, -1, 1.5, "x", "nan", [], {}, [1], "gone"], ids=repr)
def test_whatever_one_value_is_there_is_a_sentence_or_a_row(tmp_path, quick, value):
    """Of a record that was edited by hand, or made by another program: nothing fails later on."""
    run, path = next(iter(quick.values())), tmp_path / "record.json"
    records.write(record_of(run, accuracy=70.0), path)
    whole = json.loads(path.read_text())
    refused = 0
    for section in whole:
        places = [(whole, section), *((section, key) for key in (whole[section] if isinstance(whole[section], dict) else ()))]
        for inside, key in places:
            record = copy.deepcopy(whole)
            container = record if inside is whole else record[inside]
            container[key] = value
            if value == "gone":
                del container[key]
            path.write_text(json.dumps(record))
            try:
                columns.frame([records.read(path)])
                records.matches(records.read(path), run)
            except BenchError as error:
                assert re.match(r".*record\.json: (damaged record \(.+\); delete the file|record format)", str(error))
                refused += 1
    assert refused > 20


def test_other_format_and_missing_file(tmp_path):
    (tmp_path / "record.json").write_text('{"format": 99}')
    with pytest.raises(BenchError, match="record format 99, this version reads 1"):
        records.read(tmp_path / "record.json")
    with pytest.raises(BenchError, match=r"none\.json: No such file"):
        records.read(tmp_path / "none.json")


def test_collect_sorts_runs_by_what_exists(tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    first, second, third = list(quick.values())[:3]
    records.write(record_of(first, accuracy=70.0), first.path)
    other = copy.deepcopy(record_of(second, accuracy=70.0))
    other["run"]["recipe"]["steps"] += 1
    records.write(other, second.path)
    found, missing = records.collect([first, second, third])
    assert [record["run"]["id"] for record in found] == [first.id]
    assert missing == {second.id: "made from another configuration; run again", third.id: "not run"}
    second.path.write_text("{")
    with pytest.raises(BenchError, match="damaged record"):
        records.collect([first, second, third])


def test_records_of_other_data_are_missing(tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    first, second = list(quick.values())[:2]
    for run, digest in ((first, "d" * 64), (second, "e" * 64)):
        record = record_of(run, accuracy=70.0)
        record["data"]["digest"] = digest
        records.write(record, run.path)
    assert len(records.collect([first, second])[0]) == 2  # nobody has looked at the data yet
    records.write_text(datasets.text({"digest": "e" * 64}), datasets.path_of("digits"))
    found, missing = records.collect([first, second])
    assert [record["run"]["id"] for record in found] == [second.id]
    assert missing == {first.id: "made from other data; run again"}


def test_a_file_that_would_not_change_is_not_written(tmp_path):
    path = tmp_path / "a" / "b.json"
    records.write_changed("1\n", path)
    os.utime(path, ns=(0, 0))
    records.write_changed("1\n", path)
    assert path.stat().st_mtime_ns == 0
    records.write_changed("2\n", path)
    assert path.stat().st_mtime_ns > 0
    assert path.read_text() == "2\n"


def test_a_record_matches_the_run_it_was_made_from(shipped):
    """Every identity of the shipped configuration survives what JSON does to it, in a record and in a command."""
    recipe = shipped["recipes"]["de-wrn-as-published"]
    recipe["noise_multipliers"] = {float(key): value for key, value in recipe["noise_multipliers"].items()}
    shipped["studies"]["quick"]["epsilons"] = [2.65680440, 1.0e-5, 1000000, math.inf]
    shipped["claims"] = {}
    seen = set()
    for study in resolve.studies_of(shipped).values():
        for run in study.runs:
            record = {"run": json.loads(json.dumps(records._finite(run.resolved())))}
            assert records.matches(record, run), run.id
            seen.add(columns.COLUMNS["epsilon"](record))
    assert {"2.6568044", "0.00001", "1000000", "inf"} < seen


def test_frame(quick):
    run = next(run for run in quick.values() if run.epsilon == math.inf)
    record = json.loads(json.dumps(records._finite(record_of(run, accuracy=91.5))))
    (row,) = columns.frame([record]).to_dict("records")
    assert (row["variant"], row["epsilon"], row["accuracy"]) == (run.variant, "inf", 91.5)
    assert row["clip_norm"] == row["epsilon_rdp"] == math.inf
    assert (row["budget"], row["views"], row["precision"]) == ("calibrated", 1, "float32")
    assert math.isnan(row["accuracy_without_average"])  # as in records of older versions


def test_frame_has_what_a_recipe_adds(shipped):
    run = resolve.studies_of(shipped)["learning-rate"].runs[0]
    record = record_of(run, accuracy=60.0)
    record["result"]["accuracy_without_average"] = 59.5
    record["run"]["recipe"]["precision"] = "bf16"
    (row,) = columns.frame([record]).to_dict("records")
    assert (row["budget"], row["views"], row["precision"], row["accuracy_without_average"]) == ("proxy", 16, "bf16", 59.5)
