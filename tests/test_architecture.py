"""The drawing of the architecture is that of the code, and can be read."""

import xml.etree.ElementTree as ET

import pytest

from tests.test_rooms import MAY_IMPORT, imports
from tools import architecture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.slow
def test_the_committed_drawing_is_that_of_the_code():
    made = architecture.drawing(*architecture.pipeline(), imports())
    assert made == architecture.DRAWING.read_text(), "run `python -m tools.architecture`, and look at it"


def test_every_room_is_drawn_and_no_text_leaves_its_box():
    texts = list(ET.parse(architecture.DRAWING).iter(f"{SVG}text"))
    names = [text.text for text in texts if text.text]
    assert set(MAY_IMPORT) <= set(names)
    boxes = [{key: float(box.get(key)) for key in ("x", "y", "width", "height")} for box in
             ET.parse(architecture.DRAWING).iter(f"{SVG}rect") if box.get("x")]  # fmt: skip
    _, _, wide, high = map(float, ET.parse(architecture.DRAWING).getroot().get("viewBox").split())
    assert all(0 <= box["x"] <= box["x"] + box["width"] <= wide and box["y"] + box["height"] <= high for box in boxes)
    for text in texts:
        x, y = float(text.get("x")), float(text.get("y"))
        inside = [
            box for box in boxes if box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"]
        ]
        lines = [line.text for line in text.iter(f"{SVG}tspan")]
        if inside and lines:
            assert 22 + 16 * len(lines) + 4 <= inside[0]["height"], lines  # the last line's descent
            assert max(map(len, lines)) * 6.4 <= inside[0]["width"] - 24, lines


def test_an_import_that_follows_from_others_is_left_out():
    assert architecture.direct({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
    assert architecture.rows({("a", "b"), ("b", "c"), ("d", "c")}) == [("a",), ("b", "d"), ("c",)]
