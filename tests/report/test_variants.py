"""Sentences and diagrams of variants, those shipped and those that nobody has written yet."""

from xml.etree import ElementTree

import pytest

from bench.plan import resolve
from bench.report import variants

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "The network as its authors have it, with no layer added."),
        ({"sites": {"sum": "norm"}}, "One more norm like the block's others behind the sum."),
        (
            {"sites": {"sum": "norm"}, "stages": ["last"]},
            "One more norm like the block's others behind the sum, in the last stage only.",
        ),
        ({"sites": {"sum": "norm"}, "stages": [1, 3]}, "One more norm like the block's others behind the sum, "
         "in stage 1 and stage 3 only."),
        (
            {"sites": {"skip": "norm", "branch": "norm"}},
            "One more norm like the block's others on the skip and on the branch.",
        ),
        ({"sites": {"sum": "shared"}}, "The block's last norm, used a second time, behind the sum."),
        ({"sites": {"sum": "scalar", "out": "norm"}}, "One learnable gain, at first 1, behind the sum; one more norm like "
         "the block's others behind the last activation."),
        ({"norm": {"groups": 8}, "sites": {"sum": "norm"}}, "Group norm with 8 groups throughout; one more norm like the "
         "block's others behind the sum."),
        ({"norm": {"kind": "none"}, "sites": {"sum": {"kind": "group"}}},
         "No norms throughout; a group norm behind the sum."),
        (
            {"sites": {"sum": {"affine": False}}},
            "One more norm like the block's others without learnable scale and shift behind the sum.",
        ),
    ],
)  # fmt: skip
def test_a_variant_is_told_in_a_sentence(keys, expected):
    assert variants.sentence(keys) == expected


def test_every_shipped_variant_of_a_study_is_explained(shipped):
    found = variants.explained(shipped, resolve.studies_of(shipped))
    assert {"baseline", "scalenorm", "scalenorm-none"} <= set(found)
    assert "batch" not in found  # of no study
    assert len({part["sentence"] for part in found.values()}) == len(found)


def test_every_extra_layer_is_drawn_in_its_place():
    text = str(variants.diagram("a & b", {"sites": {"sum": "norm", "skip": "scalar"}, "stages": ["last"]}))
    tree = ElementTree.fromstring(text.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    boxes = [box for box in tree.iter(f"{SVG}rect") if box.get("class") == "extra"]
    assert [(float(box.get("x")) + float(box.get("width")) / 2, float(box.get("y")) + 12) for box in boxes] == [
        variants.PLACES["skip"], variants.PLACES["sum"]
    ]  # fmt: skip
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    assert texts == ["branch", "skip", "gain", "norm", "the last stage only"]
    assert tree.find(f"{SVG}title").text == "Residual block of variant a & b"
