import math

import pytest

from bench import BenchError
from bench.plan import claims, resolve

CLAIM = {
    "study": "claim",
    "arch": "resnet9",
    "variant": "scalenorm",
    "against": "baseline",
    "epsilon": 8,
    "range": [0, math.inf],
}


def signed(claim):
    return [(sign, arm.variant, arm.epsilon, arm.recipe) for sign, arm in claims.arms_of(claim, "r")]


def test_a_contrast_has_two_arms_or_four():
    assert signed(CLAIM) == [(1, "scalenorm", "8", "r"), (-1, "baseline", "8", "r")]
    assert signed(CLAIM | {"against": {"recipe": "other"}})[1] == (-1, "scalenorm", "8", "other")
    assert signed(CLAIM | {"against": {"recipe": "other", "variant": "baseline"}, "recipe": "mine"}) == [
        (1, "scalenorm", "8", "mine"),
        (-1, "baseline", "8", "other"),
    ]
    assert signed(CLAIM | {"less": {"epsilon": 3}})[2:] == [(-1, "scalenorm", "3", "r"), (1, "baseline", "3", "r")]


@pytest.mark.parametrize(
    ("ends", "test", "text"),
    [
        ((0, math.inf), "superiority", "above 0 points"),
        ((-0.5, math.inf), "non-inferiority", "above -0.5 points"),
        ((-math.inf, 0), "inferiority", "below 0 points"),
        ((-0.5, 0.5), "equivalence", "between -0.5 and 0.5 points"),
    ],
)
def test_ranges_have_the_names_of_the_field(ends, test, text):
    assert (claims.test_of(*ends), claims.range_text(*ends)) == (test, text)


def test_contrasts_are_told_in_words():
    assert claims.contrast_text(CLAIM) == "scalenorm minus baseline"
    assert claims.contrast_text(CLAIM | {"less": {"epsilon": 3}}) == "scalenorm minus baseline, less the same with epsilon 3"
    assert claims.contrast_text(CLAIM | {"against": {"recipe": "pocket"}}) == "scalenorm minus scalenorm with recipe pocket"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"study": "clam"}, "claims.mine.study: unknown study 'clam' (did you mean 'claim'?)"),
        ({"found_by": "quik"}, "claims.mine.found_by: unknown study 'quik' (did you mean 'quick'?)"),
        ({"variant": "layer"}, "claims.mine.variant: unknown variant of its study 'layer'"),
        ({"against": "layer"}, "claims.mine.against: unknown variant of its study 'layer'"),
        ({"against": {"recipe": "wrn"}}, "claims.mine.against.recipe: unknown recipe of its study 'wrn'"),
        ({"less": {"epsilon": 5}}, "claims.mine.less.epsilon: 5 is not an epsilon of study claim"),
        ({"epsilon": 5}, "claims.mine.epsilon: 5 is not an epsilon of study claim"),
        ({"epsilon": 5, "against": {"epsilon": 6}}, "claims.mine.against.epsilon: 6 is not an epsilon of study claim"),
        ({"against": "scalenorm"}, "claims.mine: two sides of its contrast are the same arm"),
        ({"less": {"epsilon": 8}}, "claims.mine: two sides of its contrast are the same arm"),
        ({"range": [1, 0]}, "claims.mine.range: [1, 0]: two rising numbers"),
        ({"range": [-math.inf, math.inf]}, "claims.mine.range: [-inf, inf]: two rising numbers"),
        (
            {"study": "learning-rate", "recipe": "proxy-lr-1", "arch": "wrn16-4"},
            "claims.mine.recipe: proxy-lr-1 is a search for learning rates (budget: proxy), it decides no claim",
        ),
        (
            {"study": "mechanism", "recipe": "pocket-clip-only", "arch": "resnet9-w8"},
            "claims.mine.recipe: runs of pocket-clip-only are not private (mechanism: {noise: false}); a claim",
        ),
        ({"private": False}, "claims.mine.private: false, and all its runs are private; remove it"),
        (
            {"study": "quick", "arch": "resnet9-w8", "found_by": "pairs"},
            "claims.mine.found_by: study quick uses seed 0, from which pairs found the claim; give it seeds of its own",
        ),
    ],
)
def test_refusals(shipped, keys, sentence):
    shipped["claims"] = {"mine": CLAIM | {"statement": "It helps.", "source": "us"} | keys}
    with pytest.raises(BenchError) as refused:
        resolve.studies_of(shipped)
    assert sentence in str(refused.value)
