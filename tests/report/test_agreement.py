"""Do the runs here agree with the committed ones? The sentence in every case that a newcomer can meet."""

import pytest

from bench.evidence import columns
from bench.report.agreement import agreement
from tests.factory import record_of

NONE = columns.frame([])


@pytest.fixture
def table(quick):
    """A function that makes runs of study quick with `seeds` into a table; accuracies of scalenorm are raised by `gain`."""

    def make(gain=0.0, seeds=8, change=lambda record: record):
        runs = [run for run in quick.values() if run.seed < seeds and run.variant in ("baseline", "scalenorm")]
        made = [record_of(run, 80 + run.seed % 3 / 3.6 + gain * (run.variant == "scalenorm")) for run in runs]
        return columns.frame([change(record) for record in made])

    return make


def test_equal_runs_agree_and_the_chance_of_a_false_alarm_is_told(table):
    found = agreement(table(), table())
    assert found["sentence"] == "Your runs agree with the committed ones: 6 arms were compared, none differs."
    assert not found["differs"]
    assert found["once_in"] == 100
    assert found["different"] == []


def test_shifted_runs_differ_and_are_listed(table):
    found = agreement(table(gain=9), table())
    assert found["differs"]
    # three arms, and the mean over all six
    assert found["sentence"] == (
        "Your runs do not all agree with the committed ones: 6 arms were compared, 4 differences were found."
    )
    assert {row["what"] for row in found["different"]} == {"accuracy, %"}
    assert found["different"][0]["arm"] == "digits/resnet9-w8/scalenorm/eps3"


def test_a_single_seed_is_called_too_few(table):
    found = agreement(table(seeds=1), table(seeds=1))
    assert found["sentence"].startswith(
        "Your runs cannot be told from the committed ones yet: 6 arms were compared, all with"
    )
    assert len(found["untested"]) == 6


def test_without_common_arms_or_a_side_there_is_nothing_to_compare(table):
    other = agreement(table(), table().assign(recipe="another"))
    assert other["sentence"] == "None of your runs has a committed counterpart yet."
    assert (other["only_here"], other["only_reference"], other["arms"]) == (6, 6, 0)
    assert agreement(NONE, table()) is None
    assert agreement(table(), NONE) is None
