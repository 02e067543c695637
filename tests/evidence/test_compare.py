"""The comparison of two tables: its false alarms and its power by simulation, and what it says."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench import BenchError
from bench.evidence import columns, compare, tables
from tests.factory import record_of

IMAGE = 100 / 360  # points that one test image of the digits is worth


def draws(random, tables, arms, n, sd, mean=90.0, image=IMAGE):
    """Accuracies (tables, arms, n) in points, whole test images."""
    return np.round(random.normal(mean, sd, (tables, arms, n)) / image) * image


def alarms(first, second, common, image=IMAGE):
    """Whether any arm (axis 1) of each table (axis 0) differs."""
    p = compare.p_values(first, second, common, image)
    return np.array([min(compare.holm(row)) < compare.FALSE_ALARMS for row in p])


@pytest.mark.parametrize("sd", [0.1, 0.4, 2.0], ids=["less-than-an-image", "about-an-image", "several-images"])
@pytest.mark.parametrize(("n", "m", "common"), [(3, 3, 0), (5, 5, 0), (8, 8, 0), (3, 8, 0), (2, 2, 0), (8, 8, 8), (3, 8, 3)])
def test_false_alarms_over_a_table_are_as_rare_as_stated(n, m, common, sd):
    random = np.random.default_rng(n * 100 + m + common)
    first, second = draws(random, 4000, 12, n, sd), draws(random, 4000, 12, m, sd)
    hits = alarms(first, second, common).sum()
    assert scipy_stats.binomtest(int(hits), 4000, compare.FALSE_ALARMS, alternative="greater").pvalue > 1e-4


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_false_alarms_of_seeds_that_both_tables_have(n, share):
    """Runs of one seed have `share` of their variance in common, and so have the arms of a table."""
    random = np.random.default_rng(n)
    seed, arm = random.normal(0, 1, (2, 4000, 1, n)), random.normal(0, 1, (2, 4000, 12, n))
    own = random.normal(0, np.sqrt(1 - share), (2, 4000, 12, n))
    shared = np.sqrt(share / 2) * (seed[0] + arm[0])
    first, second = (np.round((90 + 2 * (shared + x)) / IMAGE) * IMAGE for x in own)
    hits = alarms(first, second, n).sum()
    assert scipy_stats.binomtest(int(hits), 4000, compare.FALSE_ALARMS, alternative="greater").pvalue > 1e-4


def test_the_rate_is_not_bought_by_never_alarming():
    random = np.random.default_rng(1)
    first, second = draws(random, 4000, 12, 8, 2.0), draws(random, 4000, 12, 8, 2.0)
    assert scipy_stats.binomtest(int(alarms(first, second, 0).sum()), 4000, 0.003, alternative="less").pvalue > 1e-4


@pytest.mark.parametrize(
    ("n", "shift", "share"),
    # of the seeds' sd: unpaired tests need about t(1 - 0.01 / 12 / 2, 2 n - 2) sqrt(2 / n) and some more
    [(3, 12.0, 0.0), (5, 4.5, 0.0), (8, 3.0, 0.0), (8, 1.0, 0.99)],
)
def test_power_against_one_shifted_arm_of_twelve(n, shift, share):
    random = np.random.default_rng(n)
    shared = random.normal(0, np.sqrt(share), (500, 12, n))
    first, second = (90 + 2 * (shared + random.normal(0, np.sqrt(1 - share), (500, 12, n))) for _ in range(2))
    second[:, 4] += 2 * shift
    first, second = (np.round(x / IMAGE) * IMAGE for x in (first, second))
    assert alarms(first, second, n).mean() > 0.8


def test_t_tests_are_those_of_scipy():
    random = np.random.default_rng(0)
    first, second = random.normal(0, 1, (4, 6)), random.normal(0, 1, (4, 5))
    expected = scipy_stats.ttest_ind(first, second, axis=1).pvalue
    assert compare.unpaired(first, second, 0.0) == pytest.approx(expected)
    expected = scipy_stats.ttest_rel(first[:, :5], second, axis=1).pvalue
    assert compare.paired(first[:, :5] - second, 0.0) == pytest.approx(expected)


def test_holm_by_hand():
    assert compare.holm([0.04, 0.01, 0.03, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert len(compare.holm([])) == 0


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_one_image_on_every_seed_is_no_difference_and_many_are(n):
    first = np.full(n, 90.0)
    assert compare.p_values(first, first, n, IMAGE) == 1
    assert compare.p_values(first, first + IMAGE, n, IMAGE) == 1
    assert compare.p_values(first, first + 60 * IMAGE, n, IMAGE) < 0.01


@pytest.fixture
def table(quick):
    """A function that makes the runs of study quick into a table, `change` being made to every record."""
    random = np.random.default_rng(5)
    accuracies = {run.id: round(random.normal(320, 5)) / 3.6 for run in quick.values()}

    def make(change=lambda record: record, keep=lambda run: True):
        made = [change(record_of(run, accuracies[run.id])) for run in quick.values() if keep(run)]
        return columns.frame([record for record in made if record])

    return make


def test_equal_tables_agree(table):
    found = compare.compare(table(), table())
    assert found == {"arms": 12, "different": [], "untested": [], "only_first": [], "only_second": []}


@pytest.mark.parametrize(
    ("section", "key", "factor"),
    [("privacy", "noise_multiplier", 0.5), ("privacy", "epsilon_pld", 1.0001), ("model", "parameters", 2)],
)
def test_what_a_recipe_fixes_must_be_equal(table, section, key, factor):
    def planted(record):
        if "scalenorm/eps8" in record["run"]["id"]:
            record[section][key] *= factor
        return record

    (row,) = compare.compare(table(planted), table())["different"]
    assert row[:2] == ("digits/resnet9-w8/scalenorm/eps8", key)


def test_another_rounding_of_the_calibration_is_no_difference(table):
    def rounded(record):
        record["privacy"]["noise_multiplier"] *= 1 + 5e-7
        record["privacy"]["epsilon_pld"] *= 1 + 2e-6
        return record

    assert not compare.compare(table(rounded), table())["different"]


def test_other_data_are_a_difference(table):
    found = compare.compare(table(), table(lambda r: r | {"data": r["data"] | {"digest": "e" * 64}}))
    assert {row[1:4] for row in found["different"]} == {("dataset_digest", "d" * 12, "e" * 12)}
    assert len(found["different"]) == 12


def test_shifted_accuracies_are_a_difference(table):
    def planted(record):
        if "on-skip/epsinf" in record["run"]["id"]:
            record["result"]["accuracy"] -= 10
        return record

    row, *rest = compare.compare(table(planted), table())["different"]
    assert not rest
    assert row[:2] == ("digits/resnet9-w8/on-skip/epsinf", "accuracy, %")
    assert row[4].startswith("-10.00 points, adjusted p = ")


def test_a_small_shift_of_all_arms_is_seen_in_their_mean(table):
    random = np.random.default_rng(2)

    def planted(record):
        record["result"]["accuracy"] += 6 + random.normal(0, 1.5)
        return record

    names = [row[0] for row in compare.compare(table(planted), table())["different"]]
    assert "digits, mean over 12 arms" in names
    assert len(names) < 6


@pytest.mark.parametrize("same_seeds", [True, False])
def test_false_alarms_of_whole_tables(table, same_seeds):
    """The same through `compare`, with the mean over arms."""
    random, template = np.random.default_rng(3), table()
    hits = 0
    for _ in range(40):
        first, second = (
            template.assign(accuracy=draws(random, 1, 1, len(template), 1.0)[0, 0], seed=template["seed"] + offset)
            for offset in (0, 0 if same_seeds else 50)
        )
        hits += bool(compare.compare(first, second)["different"])
    assert scipy_stats.binomtest(hits, 40, compare.FALSE_ALARMS, alternative="greater").pvalue > 1e-4


def test_other_arms_and_single_runs_are_listed_only(table):
    found = compare.compare(
        table(keep=lambda run: run.variant != "on-skip" and run.seed == 0),
        table(keep=lambda run: run.variant != "scalenorm" and run.seed == 0),
    )
    assert not found["different"]
    assert {arm[2] for arm in found["only_first"]} == {"scalenorm"}
    assert {arm[2] for arm in found["only_second"]} == {"on-skip"}
    assert len(found["untested"]) == found["arms"] == 6


def test_an_arm_that_diverges_in_one_table_only_is_different(table):
    def planted(record):
        if "before-add/eps3" in record["run"]["id"]:
            record |= {"status": "diverged", "result": record["result"] | {"accuracy": None}}
        return record

    (row,) = compare.compare(table(planted), table())["different"]
    assert row == ("digits/resnet9-w8/before-add/eps3", "diverged", "0 of 3 completed", "3 of 3 completed", "")
    both = compare.compare(table(planted), table(planted))
    assert (both["different"], both["untested"]) == ([], ["digits/resnet9-w8/before-add/eps3"])


def test_tables_that_cannot_be_compared(table):
    with pytest.raises(BenchError, match="first table has no column noise_multiplier"):
        compare.compare(table().drop(columns="noise_multiplier"), table())
    with pytest.raises(BenchError, match=r"no arm .* in common"):
        compare.compare(table(keep=lambda run: run.variant == "on-skip"), table(keep=lambda run: run.variant == "baseline"))
    twice = table().iloc[[0, 0, 1]]
    with pytest.raises(BenchError, match="second table has a run twice: digits/resnet9-w8/baseline/3/0"):
        compare.compare(table(), twice)


def test_an_epsilon_is_a_number_however_it_is_written(tmp_path):
    (tmp_path / "a.csv").write_text("epsilon,x\n8,1\ninf,2\n7.42,3\n")
    (tmp_path / "b.csv").write_text("epsilon,x\n8.0,1\ninf,2\n7.420,3\n")
    first, second = (tables.read(tmp_path / name, "write it again") for name in ("a.csv", "b.csv"))
    assert list(first["epsilon"]) == list(second["epsilon"]) == ["8", "inf", "7.42"]
