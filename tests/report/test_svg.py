"""Short SVG: what is taken away shows nothing, what is said once still holds, and values are there."""

import io
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from bench.report import canvas, svg


def drawn():
    """A figure of two lines of five marks in one style, the second with a value, and a band."""
    with matplotlib.rc_context(canvas.RC):
        figure = Figure(figsize=(4, 3))
        axis = figure.subplots()
        axis.plot(range(5), range(5), "o", color=canvas.INK)
        axis.plot(range(5), [2] * 5, "o", color=canvas.INK, **canvas.value('a "b" & <c>: 2'))
        axis.fill_between([0, 4], [1, 1], [3, 3], color="#ff0000", alpha=0.2, lw=0)
        axis.set_title("a < b", loc="left")
        plain = io.StringIO()
        figure.savefig(plain, format="svg", transparent=True)
        return plain.getvalue(), canvas.svg(figure, "x-y", "Two lines & more")


def parts(text, tag):
    return list(ElementTree.fromstring(text).iter(f"{{{svg.NAMESPACE}}}{tag}"))


def test_all_marks_and_texts_are_kept_in_a_third_of_the_bytes():
    plain, short = drawn()
    assert len(short) < len(plain) / 3
    assert len(parts(short, "use")) == len(parts(plain[plain.index("<svg") :], "use"))
    texts = [part.text for part in parts(short, "text")]
    assert texts == [part.text for part in parts(plain[plain.index("<svg") :], "text")]
    assert "a < b" in texts


def test_every_reference_has_its_target_and_every_class_its_rule():
    _, short = drawn()
    root = ElementTree.fromstring(short)
    ids = [part.get("id") for part in root.iter() if part.get("id")]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("x-y") for name in ids)
    assert {part.get("href")[1:] for part in parts(short, "use")} <= set(ids)
    (style,) = parts(short, "style")
    for name in {part.get("class") for part in root.iter() if part.get("class")}:
        assert style.text.count(f"#x-y .{name}{{") == 1
    assert canvas.INK not in short


def test_titles_are_the_figures_and_the_values():
    _, short = drawn()
    assert [part.text for part in parts(short, "title")] == ["x-y: Two lines & more", 'a "b" & <c>: 2']


def test_numbers_have_a_digit_behind_the_point():
    assert svg._path("M 55.65 139.29 \nL 172.75 -0.04 \nz\n") == "M55.6 139.3 172.8 0z"
    assert svg._path("M 0 3 \nC 0.79 3 1.55 2.68 2.12 2.12 \n") == "M0 3C0.8 3 1.6 2.7 2.1 2.1"
