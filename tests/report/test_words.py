import math

from bench.report import words


def test_one_is_singular_however_it_is_written():
    assert words.count(1, "run", "runs") == "1 run"
    assert words.count("1", "point", "points") == "1 point"
    assert [words.count(n, "run", "runs") for n in (0, 2, "0.5")] == ["0 runs", "2 runs", "0.5 runs"]


def test_seeds_are_a_range_only_without_gaps():
    assert words.seeds([0, 1, 2, 3]) == "0 to 3"
    assert words.seeds([0, 1]) == "0 and 1"
    assert words.seeds([34, 50, 113]) == "34, 50 and 113"
    assert words.seeds([1000]) == "1000"


def test_one_run_has_no_standard_deviation():
    assert words.mean_sd({"mean": 70.0, "sd": 1.5, "n": 2}) == "70.00 ± 1.50"
    assert words.mean_sd({"mean": 70.0, "sd": math.nan, "n": 1}) == "70.00"


def test_badges_warn_of_other_data_and_of_a_schedule_that_watches_the_test_split():
    quiet, watching = {"test_split_steers": False}, {"test_split_steers": True}
    assert words.badges(["CIFAR-10"], {"CIFAR-10"}, [quiet]) == [{"text": "CIFAR-10", "warn": False}]
    assert words.badges(["Copy"], {"CIFAR-10"}, []) == [{"text": "Copy: not the official data", "warn": True}]
    assert words.badges(["", math.nan], set(), [quiet, watching]) == [{"text": words.STEERS, "warn": True}]


def test_the_committed_page_has_one_origin():
    assert words.origins(committed=True)["here"] == words.origins(committed=False)["reference"] == "our reference"
    assert words.origins(committed=False)["here"] == "this report"
