"""The experiment ``sampling-size``: how many samples a batch needs to stand for a corpus."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.errors import ConfigError
from protclip.files import atomic_write
from protclip.inference.aligned_model import load
from protclip.inference.encode import pick_device
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.training.batch_size import BatchSize, choose_batch_size, training_vectors
from protclip.training.plots import COLOURS, plain, save_figure
from protclip.training.pretrain import load_data
from protclip.training.sampling_size import MOST_ITEMS, TOLERANCE, SizeCurve, size_curve
from protclip.typing import Display, Silent

Curves = dict[str, list[SizeCurve]]


def sampling_size(
    out: Path,
    *,
    options: Mapping[str, Any],
    display: Display,
    model: Path | None = None,
    seeds: int = 3,
    tolerance: float = TOLERANCE,
    command: str = "",
) -> list[str]:
    """Measure how the density of samples nears that of the training items; writes table, figure, report.

    Parameters
    ----------
    out : Path
        Result folder.
    options : mapping
        Of pretraining; they say where the items come from and what the towers are.
    display : Display
    model : Path, optional
        A trained model, whose vectors are used; else those of towers and heads as a run starts with them.
    seeds : int
        Repetitions, from ``options["seed"]`` on: of the initial weights and of the samples.
    tolerance : float
        Largest divergence, see :func:`protclip.training.sampling_size.divergence`.
    command : str
        What the user typed.

    Returns
    -------
    list of str
        What to tell the user.

    Raises
    ------
    ConfigError, DataError
        If options or data cannot be used.
    """
    if seeds < 1:
        raise ConfigError("too few", where="--seeds", got=str(seeds), expected="1 or more")
    if not tolerance > 0:
        raise ConfigError("must be positive", where="--tolerance", got=str(tolerance))
    config = resolve(PretrainConfig, options)
    first = config.train.seed
    curves: Curves = {}
    choices: list[BatchSize] = []
    for seed in range(first, first + seeds):
        vectors, items = _vectors(config, model, seed, display, say=seed == first)
        for name, rows in vectors.items():
            curves.setdefault(name, []).append(size_curve(rows, seed=seed))
        choices.append(choose_batch_size(vectors, tolerance=tolerance, available=items, seed=seed))
    recommended = max(choice.size for choice in choices)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / "results.csv", _table(curves, first))
    _plot(curves, tolerance, out / "divergence.svg")
    lines = _lines(curves, recommended, tolerance, model)
    atomic_write(out / "results.md", _report(curves, lines, tolerance, model, command))
    atomic_write(out / "commands.txt", f"{command}\n")
    return lines


def _vectors(
    config: PretrainConfig, model: Path | None, seed: int, display: Display, *, say: bool
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Vectors of the training items by modality, and the number of training items."""
    train = config.train
    torch.manual_seed(seed)
    config = dataclasses.replace(config, train=dataclasses.replace(train, seed=seed))
    display.begin(f"vectors (seed {seed})", 1)
    data = load_data(config, display if say else Silent())
    device = pick_device(train.device)
    towers = _untrained(data, config) if model is None else _trained(model, data, train.device)
    vectors = training_vectors(
        towers.to(device), data, items=MOST_ITEMS, precision=train.precision, seed=seed
    )
    display.advance(1)
    display.end()
    return vectors, len(data)


def _untrained(data: AlignmentData, config: PretrainConfig) -> TwoTower:
    return TwoTower(*(side.modality for side in data.sides), dim=config.model.dim)


def _trained(model: Path, data: AlignmentData, device: str) -> TwoTower:
    towers = load(model, device).towers
    if towers.names != data.names:
        raise ConfigError(
            "the model has other modalities than the data",
            where=f"--model {model}",
            got=" and ".join(towers.names),
            expected=" and ".join(data.names),
        )
    return towers


def _table(curves: Curves, first: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["modality", "seed", "whole", "size", "divergence", "sd"])
    for name, found in curves.items():
        for number, curve in enumerate(found):
            for size, value, spread in zip(curve.sizes, curve.divergence, curve.spread, strict=True):
                writer.writerow([name, first + number, curve.whole, size, f"{value:.6g}", f"{spread:.6g}"])
    return text.getvalue()


def _lines(curves: Curves, recommended: int, tolerance: float, model: Path | None) -> list[str]:
    lines = []
    for name, found in curves.items():
        sizes = sorted(curve.smallest(tolerance) for curve in found)
        needed = str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        whole = found[0].whole
        more = " (the whole set that was looked at: nothing smaller stands for it)" * (sizes[-1] == whole)
        unlimited = np.mean([curve.unlimited(tolerance) for curve in found])
        lines.append(
            f"{name}: {needed} of {whole} rows stand for the set{more}; of a set without end, of which this "
            f"is a sample, about {unlimited:.0f}"
        )
    lines.append(
        f"recommendation: protclip pretrain --batch-size {recommended}, or --batch-size auto, which looks at "
        "fewer items"
    )
    if model is None:
        lines.append("vectors of untrained towers; look again at a trained model with --model")
    return lines


def _report(curves: Curves, lines: list[str], tolerance: float, model: Path | None, command: str) -> str:
    sizes = sorted({int(size) for found in curves.values() for curve in found for size in curve.sizes})
    text = ["# sampling-size: how many samples a batch needs", ""]
    text += [
        "The density of samples of growing size, as the semantic density loss takes it (Parzen window, h = "
        "0.5, distances divided by the sample's variance), against that of the whole set, at rows of "
        "neither. The divergence is two-way and per unit of density: for small values it is the mean squared "
        f"relative error, so that {tolerance:g} is an error of {100 * tolerance**0.5:.0f} %.",
        "",
        f"Vectors of {'towers as a run starts with them' if model is None else f'the model {model}'}; mean ± "
        f"standard deviation over {len(next(iter(curves.values())))} seeds.",
        "",
    ]
    if command:
        text += ["```bash", command, "```", ""]
    text += ["| rows | " + " | ".join(curves) + " |", "|---" * (len(curves) + 1) + "|"]
    for size in sizes:
        cells = []
        for found in curves.values():
            values = [float(c.divergence[c.sizes == size][0]) for c in found if size in c.sizes]
            spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3g}{spread}" if values else "-")
        text.append(f"| {size} | " + " | ".join(cells) + " |")
    text += ["", *(f"- {line}" for line in lines), "", "![divergence](divergence.svg)", ""]
    return "\n".join(text)


def _plot(curves: Curves, tolerance: float, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, found), colour in zip(curves.items(), COLOURS, strict=False):
        for number, curve in enumerate(found):
            axes.plot(
                curve.sizes,
                np.maximum(curve.divergence, 1e-12),
                "o-",
                color=colour,
                markersize=3,
                linewidth=1.2,
                alpha=0.8,
                label=name if number == 0 else None,
            )
    axes.axhline(tolerance, color="#404040", linestyle="--", linewidth=1, label=f"tolerance {tolerance:g}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted({int(size) for found in curves.values() for curve in found for size in curve.sizes})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("rows of a sample", fontsize=8)
    axes.set_ylabel("divergence from the whole set", fontsize=8)
    axes.set_title("How many samples stand for the set", fontsize=9, loc="left")
    plain(axes)
    axes.legend(fontsize=7, frameon=False)
    save_figure(figure, path)
