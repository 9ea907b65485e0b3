"""Pictures of a downstream run: precision and recall, reliability, confusion of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protclip.tasks.calibration import reliability
from protclip.training.plots import save_figure
from protclip.typing import Bools, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sets = Mapping[str, tuple[Floats, Bools]]

_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
_GREY = "#9A9A9A"
LARGEST_MATRIX = 40
"""Classes up to which a confusion matrix can be read; above, recall over the size of classes is drawn."""


def plot_precision_recall(sets: Sets, title: str, path: Path) -> None:
    """Precision over recall of all protein-class pairs (micro), one line per set."""
    from sklearn.metrics import precision_recall_curve  # heavy

    figure, axes = _figure(title)
    for (name, (scores, labels)), colour in zip(sets.items(), _COLOURS, strict=False):
        known = labels.any(1)
        if not known.any():
            continue
        precision, recall, _ = precision_recall_curve(
            labels[known].ravel(), np.asarray(scores)[known].ravel()
        )
        keep = np.unique(np.linspace(0, len(recall) - 1, 500).astype(int))
        axes.step(recall[keep], precision[keep], where="post", color=colour, label=name)
        axes.axhline(float(labels[known].mean()), color=colour, lw=0.6, ls=":")
    axes.set(xlabel="recall", ylabel="precision (dotted: chance)", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def plot_reliability(sets: Sets, kind: str, title: str, path: Path) -> None:
    """How often predictions of a probability are right, over that probability, one line per set."""
    figure, axes = _figure(title)
    axes.plot([0, 1], [0, 1], color=_GREY, lw=0.8)
    for (name, (probabilities, labels)), colour in zip(sets.items(), _COLOURS, strict=False):
        known = labels.any(1)
        if not known.any():
            continue
        found = reliability(np.asarray(probabilities)[known], labels[known], kind)
        mean, frequency, count = np.array(found["bins"]).T
        size = 6 + 40 * np.sqrt(count / count.max())
        axes.plot(mean, frequency, color=colour, lw=1, label=f"{name} (ECE {found['ece']:.3f})")
        axes.scatter(mean, frequency, s=size, color=colour)
    what = "best-scored class" if kind == "single" else "protein-class pairs"
    axes.set(
        xlabel=f"predicted probability ({what})", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02)
    )
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def plot_classes(scores: Floats, labels: Bools, classes: Sequence[str], title: str, path: Path) -> None:
    """Confusion matrix of the classes present, or recall over class size where they are many."""
    figure, axes = _figure(title)
    present = np.flatnonzero(labels.any(0))
    true, named = labels.argmax(1), np.asarray(scores).argmax(1)
    if len(present) <= LARGEST_MATRIX:
        shown = np.union1d(present, np.unique(named))[: LARGEST_MATRIX + 10]
        place = {int(c): i for i, c in enumerate(shown)}
        matrix = np.zeros((len(shown), len(shown)))
        for a, b in zip(true.tolist(), named.tolist(), strict=True):
            if a in place and b in place:
                matrix[place[a], place[b]] += 1
        matrix /= np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(shown)), [classes[c] for c in shown], rotation=90, fontsize=6)
        axes.set_yticks(range(len(shown)), [classes[c] for c in shown], fontsize=6)
        axes.set(xlabel="predicted class", ylabel="true class")
    else:
        size = labels.sum(0)[present]
        recall = np.array([(named[true == c] == c).mean() for c in present])
        axes.scatter(size, recall, s=10, color=_COLOURS[1], alpha=0.6)
        axes.set_xscale("log")
        axes.set(xlabel="proteins of the class", ylabel="recall", ylim=(-0.02, 1.02))
    save_figure(figure, path)


def _figure(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # kept out of start-up

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=9, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes
