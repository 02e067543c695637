"""Colours that are seen, names that fit, numbers that do not lie upon each other."""

import itertools

import pandas as pd
import pytest

from bench.report import canvas, dynamics, figures

PAGES = {"light": "#ffffff", "dark": "#14171a"}  # as in style.css
LONG = "scalenorm-in-front-of-the-second-convolution-of-the-last-stage-without-affine"


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("colour", "page"), list(itertools.product(canvas.COLOURS, PAGES.values())))
def test_marks_are_seen_on_both_pages(colour, page):
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_in_grey_neighbours_differ_by_their_dash():
    looks = canvas.styles([["baseline", "scalenorm", "before-add", "on-skip"]])
    assert len({str(look.dash) for look in looks.values()}) == 4


def test_numbers_stay_apart_in_their_order_and_inside():
    places = canvas.spread({"a": 0.98, "b": 0.97, "c": 0.5, "d": 0.99, "e": 0.51}, 0.075)
    assert [text for text, _ in sorted(places.items(), key=lambda item: item[1])] == ["c", "e", "b", "a", "d"]
    values = sorted(places.values())
    assert all(b - a >= 0.075 - 1e-9 for a, b in itertools.pairwise(values))
    assert (places["c"], values[-1]) == (pytest.approx(0.5), 1.0)


def test_a_long_name_is_wrapped_and_whole():
    assert len(LONG) == 77
    lines = canvas.wrapped(LONG).splitlines()
    assert max(map(len, lines)) <= canvas.LONGEST
    assert "".join(lines) == LONG
    assert canvas.wrapped("") == ""


def points(variants, seeds=2):
    return pd.DataFrame(
        {"recipe": "a", "arch": "wrn", "variant": variant, "epsilon": "8", "seed": seed, "private": True, "step": step,
         "accuracy": 60.0 + step + i + seed, "difference": i + step, "low": i, "high": i + 2.0 * step,
         "clipped": 0.5, "norm": 1.0 + i, "snr": 0.1}
        for i, variant in enumerate(variants)
        for seed in range(seeds)
        for step in (1, 2)
    )  # fmt: skip


IN_ORDER, IN_ROWS = [(0, 0), (0, 1), (1, 0)], [(0, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize(("by", "places"), [(canvas.NETWORK, IN_ORDER), (["recipe", "quantity"], IN_ROWS)])
def test_what_was_not_run_has_no_empty_panel(by, places):
    """Recipe a at two epsilons, b at the larger one only; every column ends with numbers on its axis."""
    rows = pd.DataFrame({"recipe": ["a", "a", "b"], "epsilon": ["8", "inf", "inf"]})
    figure, panels = canvas.grid(rows.assign(arch="wrn", quantity="norm", private=True), height=2, by=by, sharex=True)
    assert [axis for _, axis in panels] == figure.axes
    there = [axis.get_subplotspec() for axis in figure.axes]
    assert [(place.rowspan.start, place.colspan.start) for place in there] == places
    middle = ", " if by == canvas.NETWORK else ", norm, "
    titles = [f"{recipe}{middle}ε = {epsilon}" for recipe, epsilon in ("a8", "a∞", "b∞")]
    assert [axis.get_title(loc="left") for axis in figure.axes] == titles
    numbers = [axis.xaxis.get_tick_params()["labelbottom"] for axis in figure.axes]
    assert numbers == ([False, True, True] if places == IN_ORDER else [True, False, True])


@pytest.mark.parametrize("variants", [["baseline", LONG], ["baseline", *(f"variant-{i}" for i in range(59))]])
@pytest.mark.parametrize("draw", [figures.curves, figures.difference_curves, dynamics.clipping])
def test_every_name_of_two_or_sixty_variants_stands_in_the_legend(draw, variants):
    svg = draw(points(variants), canvas.styles([variants]), "x")
    for number, variant in enumerate(variants, 1):
        assert f"{number} {variant}<" in svg
    # nothing is cut: the figure grows with its legend, and every text begins inside
    width = float(svg.split('viewBox="0 0 ')[1].split()[0])
    assert width == pytest.approx(canvas.WIDTH * 72, abs=1)


def test_many_seeds_are_drawn_as_a_band():
    few, many = (figures.curves(points(["baseline"], seeds), canvas.styles([["baseline"]]), "x") for seeds in (3, 300))
    assert len(many) < 1.5 * len(few)
