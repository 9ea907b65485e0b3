"""Pictures of a run: losses and validation over the steps, and a map of the shared space.

Figures are built as objects and drawn by the vector back-end alone; no window, no global figure list, no
change of matplotlib's settings outlives a call.  The same input gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip.errors import ConfigError, DataError
from protclip.files import atomic_write
from protclip.scoring.knn import unit_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "plain", "plot_curves", "plot_embedding", "save_figure"]

# Okabe and Ito's palette, which stays distinct under colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_GREY = "#9A9A9A"
_LINK = "#D8D8D8"
_MARKS: tuple[dict[str, Any], ...] = ({"marker": "o", "fill": True}, {"marker": "^", "fill": False})
_SQUARE: dict[str, Any] = {"marker": "s", "fill": True}
_TRAIN, _VALID, _SETTING = "#0072B2", "#D55E00", "#6B6B6B"
_CATH_CLASSES = {
    "1": "1 mainly alpha",
    "2": "2 mainly beta",
    "3": "3 alpha beta",
    "4": "4 few secondary",
    "6": "6 special",
}
_STEP_COLUMNS = ("step", "epoch")
_SETTINGS = ("rate", "lr", "learning_rate", "scale", "temperature", "grad_norm", "pairs", "epoch", "seconds")
_MOST_POINTS = 1000  # of each modality: beyond this a map is a blot
_MOST_LINKS = 250
_SMOOTH_FROM = 40  # steps; fewer are shown as they are


def plot_curves(log_csv: str | Path, out_svg: str | Path) -> None:
    """Draw every numeric column of a run's log over the steps, one small panel each.

    Validation columns (``valid_...``) are drawn where they have values; a training and a validation column
    of one name share a panel.  Long courses are shown faint with a smoothed line on top.

    Parameters
    ----------
    log_csv : path
        Comma-separated, with a header; the first of ``step`` and ``epoch`` is the horizontal axis, else the
        row number.
    out_svg : path
        Written atomically.

    Raises
    ------
    DataError
        No such file, or no header in it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "log.csv").write_text("step,loss,valid_R@1\\n1,2.0,\\n2,1.5,0.25\\n")
    >>> plot_curves(folder / "log.csv", folder / "curves.svg")
    >>> (folder / "curves.svg").read_text().count("</svg>")
    1
    """
    save_figure(_curves_figure(Path(log_csv)), Path(out_svg))


def plot_embedding(
    vectors: Sequence[ArrayLike],
    codes: Sequence[str],
    out_svg: str | Path,
    names: tuple[str, str] = ("left", "right"),
    *,
    method: Literal["auto", "pca", "tsne"] = "auto",
    seed: int = 0,
) -> None:
    """Draw both modalities of the same items as one map in two dimensions.

    Colour is the CATH class, the marker the modality, and a thin line joins partners where the items are few.

    Parameters
    ----------
    vectors : two array_likes of float, shape (n, D)
        Embeddings of the two sides; row i of one is the partner of row i of the other.  They are scaled to
        unit length.
    codes : sequence of str, length n
        CATH codes, of which the first number counts, or any other labels; empty where unknown.
    out_svg : path
        Written atomically.
    names : two of str
        Of the sides.
    method : "auto", "pca" or "tsne"
        The two main axes of both modalities together, or t-SNE of the cosines; "auto": t-SNE from 40 points.
    seed : int
        For t-SNE, and for which 1,000 items are drawn when there are more.

    Raises
    ------
    DataError
        No items, shapes that differ, or values that are not finite.
    ConfigError
        An unknown method.

    Examples
    --------
    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "embedding.svg"
    >>> plot_embedding([np.eye(3)] * 2, ["1.10.8.10", "2.60.40.10", ""], out)
    >>> "mainly alpha" in out.read_text()
    True
    """
    figure = _embedding_figure(vectors, codes, names, method, seed)
    save_figure(figure, Path(out_svg))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, atomically; the same figure gives the same bytes."""
    from matplotlib import rc_context

    drawn = io.StringIO()
    # Text stays text: small files that can be searched.  Salt and empty date make the bytes reproducible.
    with rc_context({"svg.hashsalt": "protclip", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    atomic_write(path, drawn.getvalue())


# curves


def _curves_figure(path: Path) -> Figure:
    from matplotlib.figure import Figure

    axis, steps, columns = _read_log(path)
    panels = _panels(columns)
    across = max(1, min(4, len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    figure = Figure(figsize=(3.1 * across + 0.3, 2.2 * down + 0.45), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_axis_off()
            continue
        title, names = panels[place]
        for name in names:
            _draw_course(axes, steps, columns[name], name)
        axes.set_title(title, fontsize=9, loc="left")
        if len(names) > 1:
            axes.legend(fontsize=7, frameon=False)
        plain(axes)
        if place + across >= len(panels):
            axes.set_xlabel(axis, fontsize=8)
            axes.tick_params(labelbottom=True)
    if not panels:
        grid[0, 0].text(0.5, 0.5, "nothing logged yet", ha="center", va="center", color=_GREY)
    return figure


def _read_log(path: Path) -> tuple[str, NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Name and values of the horizontal axis, and every other column with a number in it; NaN where blank."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise DataError("cannot read the log", where=str(path), got=str(error.strerror)) from error
    if not rows or not any(rows[0]):
        raise DataError("the log has no header", where=str(path), expected="column names in the first line")
    header, body = rows[0], [row for row in rows[1:] if row]
    columns = {
        name: np.array([_number(row[place]) if place < len(row) else math.nan for row in body])
        for place, name in enumerate(header)
    }
    axis = next((name for name in _STEP_COLUMNS if name in columns), "row")
    steps = columns.pop(axis, np.arange(1.0, len(body) + 1))
    return axis, steps, {name: values for name, values in columns.items() if np.isfinite(values).any()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _panels(columns: dict[str, NDArray[np.float64]]) -> list[tuple[str, list[str]]]:
    """Title and columns of each panel: total loss, its terms, validation, then the optimiser's settings."""
    names = list(columns)
    valid = {name.removeprefix("valid_"): name for name in names if name.startswith("valid_")}
    panels = []
    for name in names:
        if name in valid.values():
            continue
        twin = valid.pop(name, None)
        panels.append((name, [name, twin] if twin else [name]))
    panels += [(f"validation {name}", [column]) for name, column in valid.items()]

    def order(panel: tuple[str, list[str]]) -> int:
        title = panel[0]
        return 0 if title == "loss" else 3 if title in _SETTINGS else 2 if "validation" in title else 1

    return sorted(panels, key=order)


def _draw_course(axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], name: str) -> None:
    seen = np.isfinite(values)
    x, y = steps[seen], values[seen]
    if name.startswith("valid_"):
        axes.plot(
            x, y, "o-", color=_VALID, markersize=2.5 if len(x) > 20 else 4, linewidth=1.2, label="valid"
        )
    elif name in _SETTINGS:
        axes.plot(x, y, color=_SETTING, linewidth=1.2, label=name)
    elif len(x) < _SMOOTH_FROM:
        axes.plot(x, y, color=_TRAIN, linewidth=1.3, marker="o" if len(x) == 1 else None, label="train")
    else:
        axes.plot(x, y, color=_TRAIN, linewidth=0.6, alpha=0.3)
        axes.plot(x, _smooth(y), color=_TRAIN, linewidth=1.5, label="train")


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a window of a twentieth of the course, shorter towards both ends."""
    half = max(1, len(values) // 40)
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def plain(axes: Axes) -> None:
    """Give axes the look that all pictures share: two spines, a light grid, small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7)
    axes.margins(x=0.02)


# map of the shared space


def _embedding_figure(
    vectors: Sequence[ArrayLike],
    codes: Sequence[str],
    names: tuple[str, str],
    method: str,
    seed: int,
) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if method not in ("auto", "pca", "tsne"):
        raise ConfigError(
            "unknown kind of map", where="method", got=repr(method), expected="auto, pca or tsne"
        )
    u, v = (unit_rows(rows, name) for rows, name in zip(vectors, names, strict=True))
    if u.shape != v.shape or len(codes) != len(u):
        raise DataError(
            "both modalities and the codes must describe the same items",
            where="embedding map",
            got=f"{names[0]} {u.shape}, {names[1]} {v.shape}, {len(codes)} codes",
        )
    n = len(u)
    rng = np.random.default_rng(seed)
    shown = np.sort(rng.permutation(n)[:_MOST_POINTS])
    points, how = _flatten(np.concatenate([u[shown], v[shown]]).astype(np.float64), method, seed)
    classes = _classes([str(codes[int(i)]) for i in shown])
    colours = np.array([colour for _, colour in classes])
    ends = points[: len(shown)], points[len(shown) :]

    figure = Figure(figsize=(8.2, 5.2), layout="constrained")
    axes, margin = figure.subplots(1, 2, width_ratios=[3.6, 1])
    few = len(shown) <= _MOST_LINKS
    if few:
        for start, end in zip(*ends, strict=True):
            axes.plot([start[0], end[0]], [start[1], end[1]], color=_LINK, linewidth=0.7, zorder=1)
    size = float(np.clip(14000 / len(points), 9, 42))
    for place, style in zip(ends, _MARKS, strict=True):
        filled = style["fill"]
        axes.scatter(
            place[:, 0],
            place[:, 1],
            s=size,
            marker=style["marker"],
            facecolors=colours if filled else "none",
            edgecolors="white" if filled else colours,
            linewidths=0.4 if filled else (1.1 if few else 0.6),
            zorder=2,
        )
    note = f"{n} items" if len(shown) == n else f"{len(shown)} of {n} items"
    axes.set_title(f"{names[0]} and {names[1]}: shared space ({how}, {note})", fontsize=10, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#BFBFBF")
    axes.margins(0.06)

    def key(label: str, colour: str, style: dict[str, Any]) -> Line2D:
        look = {"marker": style["marker"], "fillstyle": "full" if style["fill"] else "none"}
        return Line2D([], [], linestyle="", color=colour, markersize=6, label=label, **look)

    sides = zip(names, _MARKS, strict=True)
    handles = [key(name, "#404040", style) for name, style in sides]
    if few:
        handles.append(Line2D([], [], color=_LINK, linewidth=1.5, label="same item"))
    counted = Counter(classes)
    by_label = sorted(counted, key=lambda entry: (entry[1] == _GREY, entry[0]))
    squares = [key(f"{label} ({counted[label, c]})", c, _SQUARE) for label, c in by_label]
    margin.set_axis_off()
    for top, title, entries in ((1.0, "modality", handles), (0.78, "class (items)", squares)):
        if (first := margin.get_legend()) is not None:
            margin.add_artist(first)  # a new legend takes the place of the one before, unless that is kept
        margin.legend(
            handles=entries,
            title=title,
            loc="upper left",
            bbox_to_anchor=(0.0, top),
            borderaxespad=0.0,
            frameon=False,
            fontsize=8,
            title_fontsize=8,
            alignment="left",
        )
    return figure


def _flatten(points: NDArray[np.float64], method: str, seed: int) -> tuple[NDArray[np.float64], str]:
    """Two coordinates of each point, and the name of the projection used."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    found = centred @ axes[:2].T
    # An axis is known up to its sign: let its largest entry be positive, so that the picture does not flip.
    found *= np.where(axes[:2].max(axis=1) >= -axes[:2].min(axis=1), 1.0, -1.0)
    plane[:, : found.shape[1]] = found
    spread = float(plane[:, 0].std())
    # t-SNE of a collapsed cloud would draw rounding errors.
    if method == "pca" or (method == "auto" and len(points) < 40) or len(points) < 5 or spread < 1e-6:
        total = float((centred**2).sum())
        share = 100 * float((plane**2).sum()) / total if total > 0 else 100.0
        return plane, f"PCA, {share:.0f} % of the variance"
    from sklearn.manifold import TSNE

    projected: Any = TSNE(
        metric="cosine",
        init=(plane / spread * 1e-4).astype(np.float32),
        perplexity=min(30.0, (len(points) - 1) / 3),
        random_state=seed,
    ).fit_transform(points.astype(np.float32))
    return np.asarray(projected, dtype=np.float64), "t-SNE"


def _classes(codes: list[str]) -> list[tuple[str, str]]:
    """Label and colour of each item: its CATH class, or one of the commonest labels of another kind."""
    heads = [code.split(".")[0] for code in codes]
    if all(head in _CATH_CLASSES for head in heads if head):
        palette = dict(zip(_CATH_CLASSES, COLOURS, strict=False))
        return [(_CATH_CLASSES[h], palette[h]) if h else ("unlabelled", _GREY) for h in heads]
    labels = [code for code in codes if code]
    common = sorted(set(labels), key=lambda label: (-labels.count(label), label))[: len(COLOURS)]
    palette = dict(zip(common, COLOURS, strict=False))
    return [(c, palette[c]) if c in palette else ("other" if c else "unlabelled", _GREY) for c in codes]
