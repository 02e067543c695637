"""Verdicts against differences whose intervals are known by hand."""

import math

import pytest
from scipy import stats as reference

from bench.evidence import claims, columns
from bench.plan import resolve
from tests.factory import record_of

# differences over 16 pairs: mean m, sd s; the half width of the interval is 2.131 s / 4


def decided(shipped, gain, seeds=16, asked=("scalenorm-helps-eps8",), statuses=None, **keys):
    """The claims `asked` of study claim, changed by `keys`, where pair `seed` differs by gain(seed) points at epsilon 8."""
    content = shipped | {"claims": {name: shipped["claims"][name] | keys for name in asked}}
    study = resolve.studies_of(content)["claim"]
    made = []
    for run in study.runs:
        if run.seed < seeds:
            points = gain(run.seed) if run.variant == "scalenorm" and run.epsilon == 8 else 0.0
            made.append(record_of(run, 65.0 + points, (statuses or {}).get(run.seed, "completed")))
    return claims.of_study(content, study, columns.frame(made))


def alternating(mean, spread):
    return lambda seed: mean + (spread if seed % 2 else -spread)


@pytest.mark.parametrize(
    ("mean", "spread", "range_", "verdict"),
    [
        (1.0, 0.1, [0.0, math.inf], "supported"),
        (-1.0, 0.1, [0.0, math.inf], "contradicted"),
        (0.1, 2.0, [0.0, math.inf], "not resolved"),
        (1.0, 0.1, [2.0, math.inf], "contradicted"),
        (1.0, 0.1, [0.5, 1.5], "supported"),
        (1.0, 0.1, [0.5, 1.04], "not resolved"),  # the interval reaches to 1.055
        (0.0, 0.1, [-0.5, 0.5], "supported"),
        (0.7, 0.1, [-0.5, 0.5], "contradicted"),
        (-0.2, 0.1, [-math.inf, 0.0], "supported"),
    ],
)
def test_verdict(shipped, mean, spread, range_, verdict):
    (found,) = decided(shipped, alternating(mean, spread), range=range_)
    assert found["verdict"] == verdict
    assert (found["difference_n"], found["pairs"]) == (16, 16)
    assert found["difference"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("mean", "spread", "range_", "reason"),
    [
        (1.0, 0.1, [0.5, 1.5], "the interval lies between 0.5 and 1.5 points"),
        (1.0, 0.1, [2.0, math.inf], "the interval lies below 2, and claimed is above 2 points"),
        (0.7, 0.1, [-0.5, 0.5], "the interval lies above 0.5, and claimed is between -0.5 and 0.5 points"),
        (0.1, 2.0, [0.0, 0.5], "the interval contains 0 and 0.5"),
    ],
)
def test_the_reason_is_told(shipped, mean, spread, range_, reason):
    assert decided(shipped, alternating(mean, spread), range=range_)[0]["reason"] == reason


@pytest.mark.parametrize(("seeds", "verdict"), [(15, "not resolved"), (1, "not resolved"), (0, "not tested")])
def test_nothing_is_decided_before_all_pairs_have_finished(shipped, seeds, verdict):
    (found,) = decided(shipped, alternating(5.0, 0.1), seeds=seeds)
    assert (found["verdict"], found["difference_n"]) == (verdict, seeds)


def test_p_is_that_of_the_t_test_and_agrees_with_the_interval(shipped):
    gains = [0.9 + 0.05 * seed for seed in range(16)]
    for low in (0.0, 0.5, 1.1, 1.2, 1.5):
        (found,) = decided(shipped, gains.__getitem__, range=[low, math.inf])
        assert found["p"] == pytest.approx(reference.ttest_1samp(gains, low).pvalue)
        assert (found["verdict"] == "not resolved") == (found["p"] >= 0.05)


def test_claims_of_a_study_are_adjusted_together(shipped):
    """Two claims about one contrast: Holm doubles the smaller p and leaves the larger one, if it is not below the former."""
    names = ("scalenorm-helps-eps8", "scalenorm-gains-one-point")
    gain = alternating(1.0, 1.7)  # the interval: 1 +- 0.94
    helps, one_point = decided(shipped, gain, asked=names)
    assert helps["p"] < 0.05 <= helps["p_holm"] == pytest.approx(2 * helps["p"])
    assert helps["verdict"] == "not resolved"
    assert "Holm" in helps["reason"]
    assert one_point["verdict"] == "not resolved"
    (alone,) = decided(shipped, gain, asked=names[:1])
    assert alone["verdict"] == "supported"


def test_a_gain_that_grows_is_a_contrast_of_four_arms(shipped):
    (found,) = decided(shipped, alternating(1.0, 0.1), less={"epsilon": 3})
    assert (found["verdict"], found["difference"]) == ("supported", pytest.approx(1.0))
    (found,) = decided(shipped, alternating(1.0, 0.1), epsilon=3, less={"epsilon": 8})
    assert (found["verdict"], found["difference"]) == ("contradicted", pytest.approx(-1.0))
    (found,) = decided(shipped, alternating(1.0, 0.1), variant="scalenorm", against={"epsilon": 3})
    assert found["difference"] == pytest.approx(1.0)


def test_diverged_seeds_are_no_pairs(shipped):
    (found,) = decided(shipped, float, statuses={3: "diverged"})
    assert (found["difference_n"], found["verdict"]) == (15, "not resolved")
    assert found["reason"] == "15 of 16 pairs have finished, 2 runs diverged; it is decided when all have"


def test_runs_on_other_data_are_no_pairs(shipped):
    study = resolve.studies_of(shipped)["claim"]
    made = [record_of(run, 65.0 + run.seed * (run.variant == "scalenorm")) for run in study.runs if run.epsilon == 8]
    made[0]["data"]["digest"] = "e" * 64
    found = claims.of_study(shipped, study, columns.frame(made))[0]
    assert (found["difference_n"], found["verdict"]) == (15, "not resolved")
