"""The report's figures of accuracies and differences, from tables to SVG text.

Every function takes rows of one study and a `prefix` that no other figure of a page has; ids in the SVG start with it.
"""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.evidence.stats import differences_by_pair
from bench.report.canvas import (
    COLOURS,
    INK,
    NETWORK,
    PANEL,
    RC,
    Style,
    grid,
    height,
    legend,
    name_rows,
    step_lines,
    svg,
    value,
)
from bench.report.formats import bounds, number
from bench.report.words import epsilon

SITES = {"skip": "<", "branch": ">", "sum": "o"}
PAIR = [*PANEL, "seed", "dataset_digest"]
NARROW = 5.4  # inches, of the figure that a phone shows whole
LINES = 240  # single seeds in a figure of curves; of more, the band that they fill


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
    return differences_by_pair(runs[runs["status"] == "completed"], PAIR, against).rename(columns={"difference": "value"})


def curves(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Test accuracy over steps: thin seeds, or the band of two thirds of them where they are many, and thick means.

    `points` are rows (recipe, arch, variant, epsilon, seed, private, step, accuracy). Every mean ends at its number in the
    legend: colour and dash are not needed to tell it.
    """
    variants = list(points["variant"].unique())
    many = len(points[[*PANEL, "variant", "seed"]].drop_duplicates()) > LINES

    def draw(axis: Axes, variant: str, lines: pd.DataFrame) -> pd.Series:
        look, by_step = looks[variant], lines.groupby("step")["accuracy"]
        if many:
            low, high = by_step.quantile(1 / 6), by_step.quantile(5 / 6)
            axis.fill_between(low.index, low, high, color=look.colour, alpha=0.15, lw=0)
        else:
            for _, line in lines.groupby("seed", sort=False):
                axis.plot(line["step"], line["accuracy"], color=look.colour, lw=0.5, alpha=0.4)
        mean = by_step.mean()
        told = value(f"{variant}: {number(mean.iloc[-1])} % at step {mean.index[-1]}, mean over seeds")
        axis.plot(mean.index, mean, color=look.colour, lw=1.6, ls=look.dash, **told)
        return mean

    with matplotlib.rc_context(RC):
        figure, panels = grid(points, height=2.4, sharex=True, sharey=True)
        step_lines(figure, panels, {variant: looks[variant] for variant in variants}, draw)
        figure.supylabel("test accuracy, %", fontsize=9)
        return svg(figure, prefix, "Test accuracy in percent over training steps: thin lines seeds, thick lines means.")


def difference_curves(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Differences to the baseline over steps, as `over_steps.differences` gives them: means, and their intervals as bands."""

    def draw(axis: Axes, variant: str, lines: pd.DataFrame) -> pd.Series:
        look, line = looks[variant], lines.set_index("step").sort_index()
        axis.fill_between(line.index, line["low"], line["high"], color=look.colour, alpha=0.15, lw=0)
        last = line.iloc[-1].to_dict()
        said = f"{number(last['difference'], sign=True)} points{bounds(last, sign=True)}"
        told = value(f"{variant}: {said} at step {line.index[-1]}")
        axis.plot(line.index, line["difference"], color=look.colour, lw=1.6, ls=look.dash, **told)
        return line["difference"]

    with matplotlib.rc_context(RC):
        figure, panels = grid(points, height=1.9, sharex=True, sharey=True)
        step_lines(figure, panels, {variant: looks[variant] for variant in points["variant"].unique()}, draw)
        for _, axis in panels:
            axis.axhline(0, color=INK, lw=0.8)
        figure.supylabel("difference to baseline, points", fontsize=9)
        return svg(figure, prefix, "Difference to the baseline in points over training steps: means over pairs, intervals.")


def scale_mixing(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Standard deviation at the sites from rows (recipe, arch, variant, epsilon, seed, private, block, skip, branch, sum).

    A panel per block and epsilon, a line per variant: the wider skip and branch lie apart, the more the scales mix. Thin bars
    reach from the smallest to the largest seed.
    """
    variants = list(points["variant"].unique())
    with matplotlib.rc_context(RC):
        figure, panels = grid(points, height=height(variants), sharex=True, sharey=True, by=[*NETWORK, "block"])
        for rows, axis in panels:
            seeds = rows.groupby("variant", sort=False)[list(SITES)]
            means, low, high = seeds.mean(), seeds.min(), seeds.max()
            places = [variants.index(variant) for variant in means.index]
            colours = [looks[variant].colour for variant in means.index]
            axis.hlines(places, means["skip"], means["branch"], colors=colours, lw=1.2, alpha=0.6)
            for site, marker in SITES.items():
                axis.hlines(places, low[site], high[site], colors=colours, lw=0.6)
                face = {} if site == "sum" else {"mfc": "none"}
                for variant, mean, place, colour in zip(means.index, means[site], places, colours, strict=True):
                    told = value(f"{variant}, {site}: {number(mean)}")
                    axis.plot(mean, place, color=colour, marker=marker, ls="", mew=0.8, ms=6, **face, **told)
            name_rows(axis, variants)
            axis.set_xlim(0, 1.08 * points[list(SITES)].to_numpy().max())
        figure.supxlabel("standard deviation of the activations, mean over seeds", fontsize=9)
        faces = {site: INK if site == "sum" else "none" for site in SITES}
        marks = {"color": INK, "ls": "", "ms": 6}
        legend(figure, [Line2D([], [], marker=SITES[s], mfc=faces[s], label=s, **marks) for s in SITES])
        return svg(figure, prefix, "Standard deviation of skip, branch and sum per residual block and variant.")


def forest(rows: list[dict], prefix: str) -> str:
    """Effects below each other on one axis in points: `where`, `whose`, `difference`, `low`, `high`; NaN without interval.

    Filled: this suite; open: published. Names stand above their marks, so that the figure is read on a phone, too.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(NARROW, 0.8 + 0.34 * len(rows)), layout="constrained")
        axis = figure.subplots()
        for place, row in enumerate(rows):
            ours = row["whose"] == "this suite"
            look = {"color": COLOURS[0], "lw": 1.8, "marker": "o", "ms": 6}
            if not ours:
                look = {"color": INK, "lw": 0.8, "marker": "D", "ms": 4.5, "mfc": "none"}
            told = value(f"{row['where']}: {number(row['difference'], sign=True)} points{bounds(row, sign=True)}")
            axis.plot([0, 0], [place - 0.2, place + 0.35], color=INK, lw=0.8)  # the zero, not through the names
            axis.plot([row["low"], row["difference"], row["high"]], [place] * 3, markevery=[1], **look, **told)
            name = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8.5}
            axis.annotate(row["where"], (0, place - 0.42), fontweight="bold" if ours else "normal", **name)
        axis.set_ylim(len(rows) - 0.5, -0.8)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.grid(axis="x")
        axis.set_xlabel("ScaleNorm minus baseline, points")
        return svg(figure, prefix, "ScaleNorm minus baseline in points with 95 % intervals, here and as published.")


def _strips(seeds: pd.DataFrame, means: pd.DataFrame, looks: dict, prefix: str, title: str, label: str, *, zero: bool) -> str:
    """A row per variant: mean and interval (`mean`, `low`, `high` of `means`), beneath them each seed's `value`."""
    variants = list(seeds["variant"].unique())
    with matplotlib.rc_context(RC):
        figure, panels = grid(seeds, height=height(variants), sharey=True, sharex=zero)
        for rows, axis in panels:
            here = means.merge(rows[PANEL].drop_duplicates(), on=PANEL).set_index("variant")
            for variant, group in rows.groupby("variant", sort=False):
                place, look, mean = variants.index(variant), looks[variant], here.loc[variant]
                found = f"{number(mean['mean'], sign=zero)}{bounds(mean, sign=zero)}"
                told = f"{variant}, ε = {epsilon(mean['epsilon'])}: {found}"
                ends, marks = [mean["low"], mean["mean"], mean["high"]], {"marker": look.marker, "ms": 6, "markevery": [1]}
                axis.plot(ends, [place - 0.2] * 3, color=look.colour, lw=1.6, **marks, **value(told))
                # seeds below each other in the order of their numbers: equal values stay visible
                heights = place + 0.3 * (group["seed"].rank() - 1) / max(len(group) - 1, 1)
                axis.plot(group["value"], heights, "o", ms=3, mfc="none", mew=0.8, color=look.colour)
            if zero:
                axis.axvline(0, color=INK, lw=0.8)
            name_rows(axis, variants)
        figure.supxlabel(label, fontsize=9)
        return svg(figure, prefix, title)
