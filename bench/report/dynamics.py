"""Figures of what happens in training: how gradients are clipped, how scales mix, and published values by their privacy."""

import statistics

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.canvas import COLOURS, INK, NETWORK, RC, WIDTH, Style, grid, legend, step_lines, svg, value
from bench.report.formats import number, significant

CLIPPING = {"clipped": "clipped, fraction", "norm": "median norm / clip norm", "snr": "signal to noise, median"}


def clipping_points(record: dict) -> list[dict]:
    """A row an evaluation that measured it: step, `clipped` fraction, median `norm` in units of the clip norm, `snr`.

    `snr` is the median over the network's stages. What a run does not do is NaN: some clip, or add noise, alone.
    """
    bound = record["privacy"]["clip_norm"]
    return [
        {
            "step": point["step"],
            "clipped": np.nan if point.get("clipped") is None else point["clipped"],
            "norm": point["norms"][1] / bound if isinstance(bound, (int, float)) and point.get("norms") else np.nan,
            "snr": statistics.median(point["snr"]) if point.get("snr") else np.nan,
        }
        for point in record["curve"]
        if point.get("norms") or point.get("snr")
    ]


def clipping(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Means over seeds of the three quantities of `clipping_points` over steps: a row each, a column per epsilon."""
    variants = list(points["variant"].unique())
    long = points.melt([*NETWORK, "variant", "epsilon", "seed", "private", "step"], list(CLIPPING), "quantity")
    long = long.dropna(subset="value").replace({"quantity": CLIPPING})

    def draw(axis: Axes, variant: str, lines: pd.DataFrame) -> pd.Series:
        look, mean = looks[variant], lines.groupby("step")["value"].mean()
        told = value(f"{variant}: {significant(mean.iloc[-1])} at step {mean.index[-1]}, mean over seeds")
        axis.plot(mean.index, mean, color=look.colour, lw=1.4, ls=look.dash, **told)
        return mean

    with matplotlib.rc_context(RC):
        figure, panels = grid(long, height=1.5, sharex=True, sharey="row", by=[*NETWORK, "quantity"])
        step_lines(figure, panels, {variant: looks[variant] for variant in variants}, draw)
        return svg(figure, prefix, "Clipped fraction, gradient norms and signal to noise over steps, means over seeds.")


def ratios(mixing: pd.DataFrame, accuracies: pd.DataFrame) -> pd.DataFrame:
    """A row per recipe, arch, variant, epsilon: `ratio` of branch to skip, geometric mean of blocks and seeds; `accuracy`.

    `mixing` has rows of `skip` and `branch`, `accuracies` the mean accuracy as `mean`.
    """
    arm = [*NETWORK, "variant", "epsilon"]
    known = mixing[(mixing["skip"] > 0) & (mixing["branch"] > 0)]
    logs = known.assign(ratio=np.log(known["branch"] / known["skip"]))
    by_arm = logs.groupby(arm, sort=False).agg({"ratio": "mean", "private": "all"}).reset_index()
    by_arm["ratio"] = np.exp(by_arm["ratio"])
    means = accuracies[[*arm, "mean"]].rename(columns={"mean": "accuracy"})
    return by_arm.merge(means, on=arm).dropna(subset="accuracy")


def scatter(points: pd.DataFrame, looks: dict[str, Style], prefix: str) -> str:
    """Accuracy against the ratio of branch to skip, a mark per variant with its number, a panel per epsilon."""
    variants = list(points["variant"].unique())
    with matplotlib.rc_context(RC):
        figure, panels = grid(points, height=2.2, sharex=True, sharey=False)
        for rows, axis in panels:
            for row in rows.to_dict("records"):
                look, name = looks[row["variant"]], str(variants.index(row["variant"]) + 1)
                told = value(f"{row['variant']}: ratio {number(row['ratio'])}, accuracy {number(row['accuracy'])} %")
                axis.plot(row["ratio"], row["accuracy"], look.marker, color=look.colour, ms=5, **told)
                axis.annotate(name, (row["ratio"], row["accuracy"]), (5, 0), textcoords="offset points", fontsize=7.5)
            axis.axvline(1, color=INK, lw=0.8)
            axis.margins(0.15)
            axis.grid()
        figure.supxlabel("standard deviation of the branch over that of the skip, mean of blocks and seeds", fontsize=9)
        figure.supylabel("test accuracy, %", fontsize=9)
        shown = {f"{n} {name}": looks[name] for n, name in enumerate(variants, 1)}
        legend(figure, [Line2D([], [], color=s.colour, ls="", marker=s.marker, label=name) for name, s in shown.items()])
        return svg(figure, prefix, "Accuracy against the ratio of branch to skip, over variants.")


def privacy_axis(rows: list[dict], prefix: str) -> str:
    """Accuracies over mu of Gaussian differential privacy: rows of `mu`, `accuracy`, `ours`, `dataset`, `scalenorm`, `name`.

    Filled: this suite; open: published; a diamond has ScaleNorm. One panel a dataset.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        for name, axis in zip(datasets, figure.subplots(1, len(datasets), squeeze=False)[0], strict=True):
            for row in (row for row in rows if row["dataset"] == name):
                colour = COLOURS[0] if row["ours"] else INK
                face = {} if row["ours"] else {"mfc": "none"}
                told = value(f"{row['name']}: μ = {significant(row['mu'])}, {number(row['accuracy'])} %")
                axis.plot(row["mu"], row["accuracy"], "D" if row["scalenorm"] else "o", color=colour, ms=4.5, **face, **told)
            axis.set_title(name, loc="left")
            axis.margins(0.1)
            axis.set_xlim(left=0)
            axis.grid()
        figure.supxlabel("μ of Gaussian differential privacy (less is more private)", fontsize=9)
        figure.supylabel("test accuracy, %", fontsize=9)
        marks = [
            ("this suite", COLOURS[0], "o", COLOURS[0]),
            ("published", INK, "o", "none"),
            ("with ScaleNorm", INK, "D", "none"),
        ]
        legend(figure, [Line2D([], [], color=c, ls="", marker=m, mfc=f, label=name) for name, c, m, f in marks])
        return svg(figure, prefix, "Test accuracy over the privacy parameter mu, here and as published.")
