"""One picture for each metric: over the condition where that is a number, else arm by arm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protclip.experiments.definitions import Metric
from protclip.experiments.results import RunResult
from protclip.training.plots import COLOURS, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = "osD^vPX*<>"
GREY = "#808080"


def plot_metric(
    results: Sequence[RunResult], metric: Metric, path: Path, *, title: str = "", ceiling: str = ""
) -> None:
    """Draw the values of all seeds (dots), their means, and the level of chance.

    Parameters
    ----------
    results : sequence of RunResult
    metric : Metric
    path : Path
        SVG, written atomically.
    title : str
    ceiling : str
        Method drawn as a line across, where it stands outside of the conditions.
    """
    from matplotlib.figure import Figure

    shown = [r for r in results if metric.key in r.numbers]
    axis = _numeric_condition(shown)
    methods = list(dict.fromkeys(r.run.arm.method for r in shown))
    height = 3.6 if axis else 1.2 + 0.32 * len({r.run.arm.slug for r in shown})
    figure = Figure(figsize=(7.6, height), layout="constrained")
    axes = figure.subplots()
    if axis:
        _over_condition(axes, shown, metric, axis, methods)
        axes.set_xlabel(axis.replace("_", " "), fontsize=8)
        axes.set_ylabel(metric.label, fontsize=8)
        if not metric.higher_is_better:
            axes.invert_yaxis()
    else:
        _arm_by_arm(axes, shown, metric, methods, ceiling)
        axes.set_xlabel(metric.label, fontsize=8)
        if not metric.higher_is_better:
            axes.invert_xaxis()
    key = f"chance {metric.key}"
    chance = [r.numbers[key] * metric.factor for r in shown if key in r.numbers]
    if chance:
        draw = axes.axhline if axis else axes.axvline
        draw(max(chance), color=GREY, linewidth=0.9, linestyle=":", label="chance", zorder=0)
    axes.set_title(title, fontsize=9, loc="left")
    plain(axes)
    handles, labels = axes.get_legend_handles_labels()
    look: dict[str, Any] = {"fontsize": 7, "frameon": False}
    if axis:
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.3, **look)
    elif chance:
        axes.legend(handles[-1:], labels[-1:], loc="best", **look)
    save_figure(figure, path)


def _numeric_condition(results: Sequence[RunResult]) -> str:
    """Name of the one condition that takes several numbers; empty where there is none."""
    names = {name for r in results for name in r.run.arm.condition}
    if len(names) != 1:
        return ""
    name = names.pop()
    values = {r.run.arm.condition[name] for r in results if name in r.run.arm.condition}
    return name if len(values) > 1 and all(isinstance(v, (int, float)) for v in values) else ""


def _over_condition(
    axes: Axes, results: Sequence[RunResult], metric: Metric, axis: str, methods: Sequence[str]
) -> None:
    places = sorted({float(r.run.arm.condition[axis]) for r in results if axis in r.run.arm.condition})
    where = {value: place for place, value in enumerate(places)}
    for number, method in enumerate(methods):
        colour, mark, style = _look(method, methods)
        own = [r for r in results if r.run.arm.method == method]
        if not own[0].run.arm.condition:
            level = float(np.mean([r.numbers[metric.key] for r in own])) * metric.factor
            axes.axhline(level, color="#404040", linewidth=1.1, linestyle="--", label=method, zorder=1)
            continue
        points = [
            (where[float(r.run.arm.condition[axis])], r.numbers[metric.key] * metric.factor) for r in own
        ]
        x, y = np.array([p[0] for p in points], float), np.array([p[1] for p in points])
        # Side by side, so that dots of different methods do not hide each other.
        shift = (number - (len(methods) - 1) / 2) * min(0.06, 0.5 / len(methods))
        axes.plot(x + shift, y, mark, color=colour, markersize=3, alpha=0.4, linestyle="", zorder=2)
        steps = sorted(set(x))
        means = [y[x == step].mean() for step in steps]
        axes.plot(
            np.array(steps) + shift,
            means,
            marker=mark,
            color=colour,
            linewidth=1.4,
            markersize=5,
            linestyle=style,
            label=method,
            zorder=3,
        )
    axes.set_xticks(range(len(places)), [f"{value:g}" for value in places])
    axes.set_xlim(-0.4, len(places) - 0.6)  # all ticks: dots stand beside theirs


def _arm_by_arm(
    axes: Axes, results: Sequence[RunResult], metric: Metric, methods: Sequence[str], ceiling: str
) -> None:
    arms = list(dict.fromkeys(r.run.arm.name for r in results))
    for place, name in enumerate(arms):
        own = [r for r in results if r.run.arm.name == name]
        method = own[0].run.arm.method
        colour = "#404040" if method == ceiling else _look(method, methods)[0]
        values = np.array([r.numbers[metric.key] for r in own]) * metric.factor
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.45)
        axes.plot([values.mean()], [place], "|", color=colour, markersize=16, markeredgewidth=2)
        if len(values) > 1:
            low, high = values.mean() - values.std(ddof=1), values.mean() + values.std(ddof=1)
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
    axes.set_yticks(range(len(arms)), arms, fontsize=7)
    axes.set_ylim(len(arms) - 0.4, -0.6)


def _look(method: str, methods: Sequence[str]) -> tuple[str, str, str]:
    """Colour by the method, a dashed line and its colour for its variant with disjoint pools.

    A second turn of the colours is told from the first by another mark and a dotted line.
    """
    root = method.removesuffix(", disjoint")
    roots = list(dict.fromkeys(m.removesuffix(", disjoint") for m in methods))
    place = roots.index(root)
    turn = place // len(COLOURS)
    mark = MARKS[(turn + place) % len(MARKS)]
    plain_line, dashed = (("-", "--"), (":", "-."))[turn % 2]
    return COLOURS[place % len(COLOURS)], mark, dashed if root != method else plain_line
