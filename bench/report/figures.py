"""The report's figures, from tables to SVG text: the same bytes for the same tables, legible on light and dark pages.

Every function takes rows of one study and a `prefix` that no other figure of a page has; ids in the SVG start with it.
Text and axes are drawn in a stand-in colour that becomes `currentColor`.
"""

import io
import re
from collections.abc import Iterable
from typing import NamedTuple

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

INK = "#010203"  # stands for the page's text colour
# of seaborn's colour-blind palette, those that are visible on white and on black
COLOURS = [sns.color_palette("colorblind").as_hex()[index] for index in (0, 1, 2, 4, 3, 9, 5, 7)]
MARKERS = "osD^vPX*hpd8"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
SITES = {"skip": "<", "branch": ">", "sum": "o"}
NETWORK = ["recipe", "arch"]
PANEL = [*NETWORK, "epsilon"]
PAIR = [*PANEL, "seed", "dataset_digest"]
WIDTH = 7.6  # inches
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
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
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
    chosen = {"baseline": Style(INK, MARKERS[0], DASHES[0]), "scalenorm": Style(own, MARKERS[0], DASHES[0])}
    for variant in (variant for variants in studies for variant in variants):
        if variant in chosen:
            continue
        beside = [chosen[other].colour for names in studies if variant in names for other in names if other in chosen]
        everywhere = [style.colour for style in chosen.values()]
        colour = min(common, key=lambda c: (beside.count(c), everywhere.count(c)))
        turn = everywhere.count(colour)
        chosen[variant] = Style(colour, MARKERS[turn % len(MARKERS)], DASHES[turn % len(DASHES)])
    return chosen


def accuracy(runs: pd.DataFrame, summary: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Test accuracy of every seed of `runs` with mean and interval of `summary`, a panel per recipe, arch and epsilon."""
    seeds = runs[runs["status"] == "completed"].assign(value=lambda rows: rows["accuracy"].astype(float))
    title = "Test accuracy in percent per variant and epsilon: every seed, mean and 95 % interval."
    return _strips(seeds, summary, looks, prefix, title, "test accuracy at the last step, %", zero=False)


def differences(runs: pd.DataFrame, summary: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Accuracy minus the baseline's at the same seed, in points, mean and interval from `summary`; '' without pairs."""
    seeds = paired_seeds(runs)
    if seeds.empty:
        return ""
    columns = {"difference": "mean", "difference_low": "low", "difference_high": "high"}
    means = summary.drop(columns=list(columns.values())).rename(columns=columns)
    title = "Difference to the baseline in points, paired by seed: every seed, mean and 95 % interval."
    return _strips(seeds, means, looks, prefix, title, "difference to baseline at the same seed, points", zero=True)


def paired_seeds(runs: pd.DataFrame, against: str = "baseline") -> pd.DataFrame:
    """A row per completed run and pair, on equal data: its columns and `value`, its accuracy minus that of `against`."""
    done = runs[runs["status"] == "completed"]
    other = done[done["variant"] == against][[*PAIR, "accuracy"]]
    pairs = done[done["variant"] != against].merge(other, on=PAIR, suffixes=("", "_against"))
    return pairs.assign(value=(pairs["accuracy"] - pairs["accuracy_against"]).astype(float))


def curves(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Test accuracy over steps: thin seeds, thick means.

    `points` are rows (recipe, arch, variant, epsilon, seed, private, step, accuracy).
    """
    with matplotlib.rc_context(RC):
        figure, panels = _grid(points, height=2.4, sharex=True, sharey=True)
        for rows, axis in panels:
            for variant, lines in rows.groupby("variant", sort=False):
                look = looks[variant]
                for _, line in lines.groupby("seed", sort=False):
                    axis.plot(line["step"], line["accuracy"], color=look.colour, lw=0.5, alpha=0.4)
                mean = lines.groupby("step")["accuracy"].mean()
                axis.plot(mean.index, mean, color=look.colour, lw=1.6, ls=look.dash)
            axis.grid()
        figure.supxlabel("steps", fontsize=9)
        figure.supylabel("test accuracy, %", fontsize=9)
        shown = {variant: looks[variant] for variant in points["variant"].unique()}
        _legend(figure, [Line2D([], [], color=look.colour, ls=look.dash, label=name) for name, look in shown.items()])
        return _svg(figure, prefix, "Test accuracy in percent over training steps: thin lines seeds, thick lines means.")


def scale_mixing(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Standard deviation at the sites from rows (recipe, arch, variant, epsilon, seed, private, block, skip, branch, sum).

    A panel per block and epsilon, a line per variant: the wider skip and branch lie apart, the more the scales mix.
    """
    variants = list(points["variant"].unique())
    with matplotlib.rc_context(RC):
        figure, panels = _grid(points, height=_height(variants), sharex=True, sharey=True, by=[*NETWORK, "block"])
        for rows, axis in panels:
            for variant, seeds in rows.groupby("variant", sort=False):
                place, means = variants.index(variant), seeds[list(SITES)].mean()
                axis.plot(means[["skip", "branch"]], [place] * 2, color=looks[variant].colour, lw=1.2, alpha=0.6)
                for site, marker in SITES.items():
                    look = {"color": looks[variant].colour, "marker": marker, "ls": "", "mew": 0.8}
                    face = {} if site == "sum" else {"mfc": "none"}
                    axis.plot(seeds[site], [place] * len(seeds), ms=3, alpha=0.35, **look, **face)
                    axis.plot(means[site], place, ms=6, **look, **face)
            _name_rows(axis, variants)
            axis.set_xlim(0, 1.08 * points[list(SITES)].to_numpy().max())
        figure.supxlabel("standard deviation of the activations, mean over seeds", fontsize=9)
        faces = {site: INK if site == "sum" else "none" for site in SITES}
        marks = {"color": INK, "ls": "", "ms": 6}
        _legend(figure, [Line2D([], [], marker=SITES[s], mfc=faces[s], label=s, **marks) for s in SITES])
        return _svg(figure, prefix, "Standard deviation of skip, branch and sum per residual block and variant.")


def forest(rows: list[dict], prefix: str) -> str:
    """Effects below each other on one axis in points: `where`, `whose`, `difference`, `low`, `high`; NaN without interval.

    Filled: this suite; open: published.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.26 * len(rows)), layout="constrained")
        axis = figure.subplots()
        for height, row in enumerate(rows):
            ours = row["whose"] == "this suite"
            axis.plot([row["low"], row["high"]], [height] * 2, color=COLOURS[0] if ours else INK, lw=1.6 if ours else 0.8)
            look = {"color": COLOURS[0]} if ours else {"color": INK, "mfc": "none"}
            axis.plot(row["difference"], height, "o" if ours else "D", ms=6 if ours else 4.5, **look)
        axis.axvline(0, color=INK, lw=0.8)
        _name_rows(axis, [row["where"] for row in rows])
        axis.set_xlabel("ScaleNorm minus baseline, points")
        return _svg(figure, prefix, "ScaleNorm minus baseline in points with 95 % intervals, here and as published.")


def _strips(seeds: pd.DataFrame, means: pd.DataFrame, looks: dict, prefix: str, title: str, label: str, *, zero: bool) -> str:
    """A row per variant: mean and interval (`mean`, `low`, `high` of `means`), beneath them each seed's `value`."""
    variants = list(seeds["variant"].unique())
    with matplotlib.rc_context(RC):
        figure, panels = _grid(seeds, height=_height(variants), sharey=True, sharex=zero)
        for rows, axis in panels:
            here = means.merge(rows[PANEL].drop_duplicates(), on=PANEL).set_index("variant")
            for variant, group in rows.groupby("variant", sort=False):
                place, look, mean = variants.index(variant), looks[variant], here.loc[variant]
                axis.plot([mean["low"], mean["high"]], [place - 0.2] * 2, color=look.colour, lw=1.6)
                axis.plot(mean["mean"], place - 0.2, marker=look.marker, ms=6, color=look.colour)
                # seeds below each other in the order of their numbers: equal values stay visible
                heights = place + 0.3 * (group["seed"].rank() - 1) / max(len(group) - 1, 1)
                axis.plot(group["value"], heights, "o", ms=3, mfc="none", mew=0.8, color=look.colour)
            if zero:
                axis.axvline(0, color=INK, lw=0.8)
            _name_rows(axis, variants)
        figure.supxlabel(label, fontsize=9)
        return _svg(figure, prefix, title)


def _grid(points: pd.DataFrame, *, height: float, by: Iterable[str] = NETWORK, **shared) -> tuple[Figure, list]:
    """A figure with a panel per value of `by` (rows) and epsilon (columns), and [(rows of a panel, its axis)]."""
    by = list(by)
    lines = points[by].drop_duplicates().to_numpy().tolist()
    epsilons = sorted(points["epsilon"].unique(), key=float)
    told = [key for key in by if key not in NETWORK or len(points[key].unique()) > 1]
    figure = Figure(figsize=(WIDTH, height * len(lines) + 0.7), layout="constrained")
    axes = figure.subplots(len(lines), len(epsilons), squeeze=False, **shared)
    panels = []
    for line, row in zip(lines, axes, strict=True):
        for epsilon, axis in zip(epsilons, row, strict=True):
            chosen = (points[by] == line).all(axis=1) & (points["epsilon"] == epsilon)
            names = [name for key, name in zip(by, line, strict=True) if key in told]
            label = "ε = ∞" if epsilon == "inf" else f"ε = {epsilon}"
            nominal = epsilon != "inf" and not points.loc[chosen, "private"].all()
            axis.set_title(", ".join([*names, f"nominal {label}, not private" if nominal else label]), loc="left")
            axis.xaxis.set_major_locator(MaxNLocator(4 if len(epsilons) < 4 else 3))
            panels.append((points[chosen], axis))
    return figure, panels


def _height(variants: list) -> float:
    return 0.5 + 0.3 * len(variants)


def _name_rows(axis: Axes, variants: list[str]) -> None:
    """Variants from top to bottom instead of a numbered axis."""
    axis.set_yticks(range(len(variants)), variants)
    axis.set_ylim(len(variants) - 0.5, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid()


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)), handlelength=2.4, borderpad=0)


def _svg(figure: Figure, prefix: str, title: str) -> str:
    """The figure as an <svg> element that can stand in a page beside others or alone in a file."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg[svg.index("<svg") :]).replace(INK, "currentColor")
    svg = svg.replace("<svg ", f'<svg id="{prefix}" role="img" aria-labelledby="{prefix}-title" ', 1)
    svg = svg.replace("<title>", f'<title id="{prefix}-title">', 1)
    return svg.replace("*{stroke-linejoin", f"#{prefix} *{{stroke-linejoin", 1)
