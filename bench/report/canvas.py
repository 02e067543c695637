"""What all figures share: colours and marks of variants, panels, names, legends, and SVG text, equal for equal tables.

Text and axes are drawn in a stand-in colour that becomes `currentColor`; marks have a contrast of 3 to either page.
"""

import io
import math
import textwrap
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.svg import VALUE, shortened

INK = "#010203"  # stands for the page's text colour
# seaborn's colour-blind palette, the light ones darkened until they are seen on white
COLOURS = ("#0173b2", "#b87400", "#029e73", "#b368a3", "#d55e00", "#3a8fc0", "#a8744a", "#8a8a8a")
MARKERS = "osD^vPX*hpd8"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
NETWORK = ["recipe", "arch"]
PANEL = [*NETWORK, "epsilon"]
WIDTH = 7.6  # inches
LONGEST = 26  # letters of a name beside an axis, in one line
RC = {
    "svg.hashsalt": "scalenorm-bench",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.15,
    **dict.fromkeys(["xtick.bottom", "ytick.left"], False),  # every figure has a grid, whose lines say it
    **dict.fromkeys(["xtick.major.size", "ytick.major.size"], 0),
    "legend.frameon": False,
    **dict.fromkeys([f"{part}.color" for part in ("text", "xtick", "ytick", "grid")], INK),
    **dict.fromkeys(["axes.labelcolor", "axes.edgecolor"], INK),
}


class Style(NamedTuple):
    """How a variant looks in every figure; no two variants share both colour and marker."""

    colour: str
    marker: str
    dash: str | tuple


def styles(studies: Iterable[Iterable[str]]) -> dict[str, Style]:
    """A style for every variant, given the variants of each study: within a study colours repeat when all are used.

    The two variants that the benchmark is about have colours of their own.
    """
    studies = [list(dict.fromkeys(variants)) for variants in studies]
    own, *common = COLOURS
    chosen = {"baseline": Style(INK, MARKERS[0], DASHES[0]), "scalenorm": Style(own, MARKERS[0], DASHES[1])}
    for variant in (variant for variants in studies for variant in variants):
        if variant in chosen:
            continue
        beside = [chosen[other].colour for names in studies if variant in names for other in names if other in chosen]
        everywhere = [style.colour for style in chosen.values()]
        colour = min(common, key=lambda c: (beside.count(c), everywhere.count(c)))
        turn = everywhere.count(colour)
        chosen[variant] = Style(colour, MARKERS[turn % len(MARKERS)], DASHES[len(chosen) % len(DASHES)])
    return chosen


def grid(points: pd.DataFrame, *, height: float, by: Iterable[str] = NETWORK, **shared) -> tuple[Figure, list]:
    """A figure with a panel per value of `by` (rows) and epsilon (columns), and [(rows of a panel, its axis)].

    There is none where nothing was run; of recipes and networks the panels that there are then follow each other.
    """
    by = list(by)
    lines = points[by].drop_duplicates().to_numpy().tolist()
    epsilons = sorted(points["epsilon"].unique(), key=float)
    told = [key for key in by if key not in NETWORK or len(points[key].unique()) > 1]
    found = {tuple(cell) for cell in points[[*by, "epsilon"]].drop_duplicates().to_numpy().tolist()}
    cells = [(line, epsilon, (*line, epsilon) in found) for line in lines for epsilon in epsilons]
    if by == NETWORK:
        cells = [cell for cell in cells if cell[2]]
    rows = math.ceil(len(cells) / len(epsilons))
    figure = Figure(figsize=(WIDTH, height * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, len(epsilons), squeeze=False, **shared)
    panels, lowest = [], {}
    for place, axis in enumerate(axes.flat):
        line, epsilon, there = cells[place] if place < len(cells) else (None, None, False)
        if not there:
            axis.remove()
            continue
        lowest[place % len(epsilons)] = axis
        chosen = (points[by] == line).all(axis=1) & (points["epsilon"] == epsilon)
        names = [name for key, name in zip(by, line, strict=True) if key in told]
        label = "ε = ∞" if epsilon == "inf" else f"ε = {epsilon}"
        nominal = epsilon != "inf" and not points.loc[chosen, "private"].all()
        axis.set_title(", ".join([*names, f"nominal {label}, not private" if nominal else label]), loc="left", y=1)
        # the place of a title or an empty label needs no search: with y above, 15 % of the time of a page of 5,000 runs
        axis.xaxis.set_label_coords(0.5, 0)
        axis.yaxis.set_label_coords(0, 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(4 if len(epsilons) < 4 else 3))
        panels.append((points[chosen], axis))
    for axis in lowest.values():
        axis.tick_params(labelbottom=True)
    return figure, panels


def height(names: Iterable[str]) -> float:
    """Inches of a panel with a row for every name."""
    return 0.5 + 0.3 * sum(max(1, 0.6 * len(wrapped(name).splitlines())) for name in names)


def wrapped(name: str, width: int = LONGEST) -> str:
    """A name in lines that leave room for what it names."""
    return "\n".join(textwrap.wrap(name, width, break_on_hyphens=True)) or name


def name_rows(axis: Axes, variants: list[str]) -> None:
    """Variants from top to bottom instead of a numbered axis."""
    axis.set_yticks(range(len(variants)), map(wrapped, variants))
    axis.set_ylim(len(variants) - 0.5, -0.6)
    axis.spines["left"].set_visible(False)
    axis.grid()


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """A legend above the panels, of as many columns as names of this length leave room for; the figure grows by its rows."""
    for handle in handles:
        handle.set_label(wrapped(handle.get_label(), 90))
    longest = max(len(line) for handle in handles for line in handle.get_label().splitlines())
    columns = max(1, min(6, len(handles), int(WIDTH * 72 / (5.2 * longest + 40))))
    lines = sum(len(handle.get_label().splitlines()) for handle in handles)
    width, tall = figure.get_size_inches()
    figure.set_size_inches(width, tall + 0.18 * (lines / columns + 1))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=2.4, borderpad=0)


def step_lines(
    figure: Figure, panels: list, looks: dict[str, Style], draw: Callable[[Axes, str, pd.DataFrame], pd.Series]
) -> None:
    """Draws every variant of `looks` into the panels that `grid` made, each numbered where it ends as in the legend.

    `draw(axis, variant, rows)` gives the line that it drew: values by step.
    """
    numbers, variants = [], list(looks)
    for rows, axis in panels:
        ends = {}
        for variant, lines in rows.groupby("variant", sort=False):
            line = draw(axis, variant, lines)
            ends[str(variants.index(variant) + 1)] = line.index[-1], line.iloc[-1]
        numbers.append((axis, ends))
        axis.grid()
    number_ends(numbers)
    figure.supxlabel("steps", fontsize=9)
    numbered(figure, looks)


def numbered(figure: Figure, looks: dict[str, Style]) -> None:
    """A legend of lines whose names begin with their number, as `number_ends` writes it."""
    lines = [Line2D([], [], color=s.colour, ls=s.dash, label=f"{n} {name}") for n, (name, s) in enumerate(looks.items(), 1)]
    legend(figure, lines)


def number_ends(panels: list[tuple[Axes, dict[str, tuple[float, float]]]]) -> None:
    """Writes every text right of its point (x, y), apart from those below and above; after all panels have been drawn.

    `panels` are (axis, points in data units by text).
    """
    for axis, ends in panels:
        if ends:
            axis.set_xlim(right=axis.dataLim.x1 + 0.12 * axis.dataLim.width)
            (bottom, top), room = axis.get_ylim(), min(0.075, 0.95 / len(ends))
            for text, place in spread({text: (y - bottom) / (top - bottom) for text, (_, y) in ends.items()}, room).items():
                point = ends[text][0], bottom + place * (top - bottom)
                axis.annotate(text, point, (3, 0), textcoords="offset points", va="center", fontsize=7.5)


def spread(places: dict[str, float], room: float) -> dict[str, float]:
    """Places between 0 and 1, in their order and at least `room` apart where they fit; moved up, and down from the end."""
    found, last = {}, -math.inf
    for text in sorted(places, key=places.__getitem__):
        found[text] = last = max(places[text], last + room)
    limit = 1.0
    for text in reversed(found):
        found[text] = min(found[text], limit)
        limit = found[text] - room
    return found


def value(text: str) -> dict:
    """What an artist takes to show `text` under the pointer."""
    return {"gid": f"{VALUE}{text}"}


def svg(figure: Figure, prefix: str, title: str) -> str:
    """The figure as an <svg> element that can stand in a page beside others or alone in a file."""
    text = io.StringIO()
    figure.set_dpi(72)  # that of SVG
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine(None)  # or savefig would draw everything once more, to lay it out
    figure.savefig(text, format="svg", transparent=True)
    return shortened(text.getvalue().replace(INK, "currentColor"), prefix, title)
