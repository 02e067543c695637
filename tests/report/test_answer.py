import math

import pytest

from bench.plan.claims import contrast_text
from bench.report import answer, figures
from bench.report.formats import MINUS, NOTHING

EFFECT = {"dataset": "Digits (scikit-learn, 16 x 16)", "recipe": "digits", "arch": "resnet9-w8", "epsilon": "1"}
EFFECT |= {"study": "pairs", "difference": 2.27, "low": 1.22, "high": 3.32, "pairs": 30, "planned": 30, "detectable": 1.5}
EFFECT |= {"finding": "gain", "alone": True, "private": True, "parameters": 38322, "steps": 80}
CLAIMS = [{"verdict": "not tested", "source": "Klause et al."}, {"verdict": "supported", "source": "quick of this suite"}]
CLAIMS = [claim | {"contrast": "scalenorm minus baseline"} for claim in CLAIMS]


def test_the_answer_says_together_published_and_by_task():
    low = EFFECT | {"epsilon": "8", "difference": 0.44, "low": -0.16, "high": 1.04, "finding": "not resolved"}
    few = EFFECT | {"epsilon": "3", "difference": 0.83, "low": -0.85, "high": 2.51, "finding": "too few pairs"}
    few |= {"pairs": 1, "planned": 1}
    together, published, digits = answer.sentences([EFFECT, low, few], CLAIMS)
    assert together == "ScaleNorm helps in 1 of 3 settings that were tried here, harms in none; 2 are open."
    assert published == "Of 1 published claim 1 is not tested. Of 1 claim of this suite's own 1 is supported."
    assert digits == (
        "Digits, resnet9-w8 (38,322 parameters, 80 steps): at ε = 1 it helps, +2.27 points [+1.22, +3.32] over 30 pairs; at "
        f"ε = 3 too few pairs to tell one point from none, +0.83 points [{MINUS}0.85, +2.51] over 1 pair; at ε = 8 "
        f"not resolved, +0.44 points [{MINUS}0.16, +1.04] over 30 pairs: a gain above +1.04 is excluded."
    )


@pytest.mark.parametrize(
    ("finding", "text"),
    [("loss", "it harms"), ("no gain of one point", "a gain of one point is excluded and none is shown")],
)
def test_every_finding_has_its_words(finding, text):
    assert text in answer.sentences([EFFECT | {"finding": finding}], CLAIMS)[2]


def test_a_claim_that_is_contradicted_is_named():
    wrong = {
        "verdict": "contradicted",
        "source": "Klause et al.",
        "statement": "The sum is the place.",
        "dataset": "CIFAR-10",
        "contrast": "scalenorm minus on-skip",
    }
    wrong |= {"difference": -0.35, "difference_low": -0.61, "difference_high": -0.09, "difference_n": 32}
    assert answer.sentences([EFFECT], [*CLAIMS, wrong])[1] == (
        "Of 2 published claims 1 is contradicted and 1 is not tested. Of 1 claim of this suite's own 1 is supported. "
        f"Contradicted on CIFAR-10, {MINUS}0.35 points [{MINUS}0.61, {MINUS}0.09] over 32 pairs: The sum is the place."
    )


@pytest.mark.parametrize("verdict", ["supported", "not resolved"])
def test_what_the_gain_depends_on_is_told_where_it_is_decided(verdict):
    less = {"epsilon": 1, "variant": "scalenorm", "against": "baseline", "less": {"epsilon": 8}}
    moved = CLAIMS[1] | {"statement": "It gains more at epsilon 1.", "contrast": contrast_text(less), "verdict": verdict}
    moved |= {"difference": 1.89, "difference_low": 0.71, "difference_high": 3.07, "difference_n": 30}
    told = "It gains more at epsilon 1: supported, +1.89 points [+0.71, +3.07] over 30 pairs."
    said = answer.sentences([EFFECT], [*CLAIMS, moved])
    assert said[2:-1] == ([told] if verdict == "supported" else [])


def test_what_the_layer_does_without_privacy_stands_beside_and_counts_for_nothing():
    plain = EFFECT | {
        "epsilon": "inf",
        "private": False,
        "difference": 1.6,
        "low": 0.8,
        "high": 2.4,
        "pairs": 12,
        "planned": 12,
    }
    together, _, digits = answer.sentences([EFFECT, plain], CLAIMS)
    assert together == "ScaleNorm helps in 1 of 1 setting that was tried here, harms in none."
    assert digits.endswith("over 30 pairs; without privacy it helps, +1.60 points [+0.80, +2.40] over 12 pairs.")
    assert answer.sentences([plain], CLAIMS)[0] == answer.NO_PAIRS
    assert answer.rows([plain], [])[0]["where"] == "Digits, resnet9-w8, not private"


def test_a_study_that_has_not_finished_decides_nothing():
    together, _, digits = answer.sentences([EFFECT | {"planned": 32}, EFFECT | {"epsilon": "8"}], CLAIMS)
    assert together == (
        "ScaleNorm helps in 1 of 2 settings that were tried here, harms in none; 1 is open, 1 with runs missing."
    )
    assert "at ε = 1 it helps so far, +2.27 points [+1.22, +3.32] over 30 of 32 pairs; at ε = 8 it helps, +2.27" in digits


@pytest.mark.parametrize(
    ("finding", "so_far"), [("loss", 1), ("no gain of one point", 1), ("not resolved", 1), ("too few pairs", 0)]
)
def test_what_half_a_study_finds_is_found_so_far(finding, so_far):
    assert answer.sentences([EFFECT | {"finding": finding, "planned": 32}], CLAIMS)[2].count("so far") == so_far


def test_a_single_pair_has_no_interval():
    single = EFFECT | {"low": math.nan, "high": math.nan, "pairs": 1, "planned": 8, "finding": "too few pairs"}
    told = "at ε = 1 too few pairs to tell one point from none, +2.27 points over 1 of 8 pairs."
    assert answer.sentences([single], CLAIMS)[2].endswith(told)


def test_recipes_of_one_task_and_network_are_told_apart():
    effects = [EFFECT | {"alone": False}, EFFECT | {"alone": False, "recipe": "long"}]
    found = answer.sentences(effects, CLAIMS)[2:]
    assert [text.partition(" (")[0] for text in found] == [
        f"Digits, resnet9-w8, recipe {name}" for name in ("digits", "long")
    ]


def test_without_pairs_nothing_is_known():
    assert answer.sentences([], CLAIMS)[0] == answer.NO_PAIRS


def test_the_table_behind_the_plot_has_both_origins():
    value = {"id": "x-self-aug", "dataset": "CIFAR-10", "epsilon": "8.0", "n": "3", "score": "best-epoch", "source_key": "RR"}
    published = {"row": value, "against": {"model": "WRN-16-4"}, "difference": -1.0, "low": -2.0, "high": 0.0}
    single = published | {"low": math.nan, "high": math.nan}
    mine, theirs, alone = answer.rows([EFFECT], [published, single])
    assert (mine["where"], mine["pairs"]) == ("Digits, resnet9-w8, ε = 1", "30")
    assert (theirs["where"], theirs["pairs"]) == ("CIFAR-10, WRN-16-4, views, ε = 8", "3 each, unpaired")
    assert alone["pairs"] == NOTHING
    svg = figures.forest([mine, theirs, alone], "x")
    assert svg.startswith('<svg id="x"')
    assert svg.count("WRN-16-4, views, ε = 8</text>") == 2
    assert svg.count("points</title>") == 1  # a single value has no interval
