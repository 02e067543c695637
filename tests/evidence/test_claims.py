import pytest

from bench.evidence import claims, columns
from bench.plan import resolve
from tests.factory import record_of

# differences over 16 pairs: mean m, sd s; the half width of the interval is 2.131 s / 4


@pytest.mark.parametrize(
    ("shift", "spread", "seeds", "at_least", "verdict"),
    [
        (1.0, 0.1, 16, 0.0, "supported"),
        (-1.0, 0.1, 16, 0.0, "contradicted"),
        (0.1, 2.0, 16, 0.0, "undecided"),
        (1.0, 0.1, 16, 2.0, "contradicted"),
        (1.0, 0.1, 15, 0.0, "undecided"),
        (1.0, 0.1, 0, 0.0, "undecided"),
    ],
)
def test_verdict(shipped, shift, spread, seeds, at_least, verdict):
    claim = shipped["claims"]["scalenorm-helps-eps8"] | {"at_least": at_least}
    made = []
    for run in resolve.studies_of(shipped)["claim"].runs:
        if run.seed < seeds and run.epsilon == 8:
            wobble = spread if run.seed % 2 else -spread
            made.append(record_of(run, 65.0 + (shift + wobble if run.variant == "scalenorm" else 0.0)))
    found = claims.decide("mine", claim, columns.frame(made))
    assert found["verdict"] == verdict
    assert found["difference_n"] == seeds


def test_diverged_seeds_are_no_pairs(shipped):
    made = [
        record_of(run, 65.0 + run.seed, "diverged" if run.seed == 3 else "completed")
        for run in resolve.studies_of(shipped)["claim"].runs
        if run.epsilon == 8
    ]
    found = claims.decide("mine", shipped["claims"]["scalenorm-helps-eps8"], columns.frame(made))
    assert (found["difference_n"], found["verdict"]) == (15, "undecided")
    assert found["reason"] == "15 of 16 paired seeds have finished"


def test_runs_on_other_data_are_no_pairs(shipped):
    made = [record_of(run, 65.0) for run in resolve.studies_of(shipped)["claim"].runs if run.epsilon == 8]
    made[0]["data"]["digest"] = "e" * 64
    found = claims.decide("mine", shipped["claims"]["scalenorm-helps-eps8"], columns.frame(made))
    assert (found["difference_n"], found["reason"]) == (15, "15 of 16 paired seeds have finished")
