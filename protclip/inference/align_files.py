"""Align two embedding files from a list of pairs, and write the maps as a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone

import protclip
from protclip.alignment import TransportAlignment
from protclip.alignment.cross_validation import LEAST_PAIRS, cross_validate, training_scores
from protclip.alignment.methods import METHODS
from protclip.data.files.vector_file import VectorFile
from protclip.data.paired.pair_list import read_pairs
from protclip.errors import ConfigError, DataError
from protclip.modalities.vectors import VectorsModality
from protclip.model.two_tower import TwoTower
from protclip.typing import Say


@dataclass(frozen=True)
class AlignReport:
    """What :func:`align_files` did.

    Attributes
    ----------
    out : Path
        The model folder.
    pairs, left, right : int
        Pairs, and all rows of both files.
    scores : dict
        Retrieval of partners, with chance; see
        :meth:`protclip.alignment.cross_validation.PairScores.summary`.
    held_out : bool
        Whether ``scores`` are of held-out pairs, or of the pairs of the fit.
    alignment : estimator
        The fitted alignment.
    """

    out: Path
    pairs: int
    left: int
    right: int
    scores: dict[str, float]
    held_out: bool
    alignment: Any

    def __repr__(self) -> str:
        kind = "held out" if self.held_out else "of the fit"
        found = f"R@1 {self.scores['R@1']:.3f} among {self.scores['gallery']:.0f}"
        return f"AlignReport({str(self.out)!r}, {self.pairs} pairs, {found} {kind})"

    def lines(self) -> list[str]:
        """The report in sentences."""
        s = self.scores
        how = "pairs held out"
        if not self.held_out:
            how = "the pairs of the fit, so these numbers flatter: none held out"
        text = [
            f"{self.pairs} pairs, {self.left - self.pairs} and {self.right - self.pairs} unpaired",
            f"Retrieval of partners among {s['gallery']:.0f} ({how}; both directions):",
            *(f"  R@{k} {s[f'R@{k}']:.1%} (chance {s[f'chance_R@{k}']:.1%})" for k in (1, 10)),
            f"  median rank {s['median_rank']:.0f} (chance {s['chance_median_rank']:.0f})",
        ]
        if hasattr(self.alignment, "best_params_"):
            chosen = ", ".join(f"{key} {value:g}" for key, value in self.alignment.best_params_.items())
            text.append(f"Chosen on held-out pairs: {chosen} (so the scores above are slightly optimistic)")
        history = getattr(self.alignment, "history_", [])
        stuck = [h for h in history if not h["converged"]]
        if stuck:
            text.append(f"The plan did not converge in {len(stuck)} of {len(history)} rounds")
        if getattr(self.alignment, "prior_", False):
            text.append("The plan was told side information (--prior): without it scores are others")
        return [*text, f"Model: {self.out}"]


def align_files(
    left: Path,
    right: Path,
    pairs: Path,
    out: Path,
    alignment: Any,
    *,
    left_name: str = "left",
    right_name: str = "right",
    prior: Path | None = None,
    folds: int = 5,
    say: Say = lambda text: None,
) -> AlignReport:
    """Fit ``alignment`` to two embedding files and save it as a model with two vector sides.

    Parameters
    ----------
    left, right : Path
        HDF5 files that :class:`protclip.data.files.vector_file.VectorFile` reads.
    pairs : Path
        Two columns of ids, see :func:`protclip.data.paired.pair_list.read_pairs`.
    out : Path
        Model folder to write; must not exist.
    alignment : estimator
        One of :data:`protclip.alignment.methods.LINEAR` with its settings; fitted here.
    left_name, right_name : str
        Names of the sides in the model.
    prior : Path, optional
        Two columns, id and number, for all ids of both files: side information that partners share.
        ``transport`` only; results name it.
    folds : int
        Folds of held-out pairs for the scores; 0 ranks the pairs of the fit instead, which is quick.
    say : callable
        Told in a sentence what goes on.

    Raises
    ------
    ConfigError
        If ``out`` exists, the names are equal or empty, there are fewer than two pairs, or an option is out
        of range.
    DataError
        If a file cannot be read, holds NaN, or a pair names an unknown id.
    """
    if out.exists():
        raise ConfigError("something is there already", where=f"-o {out}", hint="Choose another folder")
    if left_name == right_name or not left_name or not right_name or "." in left_name + right_name:
        raise ConfigError(
            "the sides need two names",
            where="--left-name, --right-name",
            got=f"{left_name!r} and {right_name!r}",
            expected="different, not empty, without a dot",
        )
    with VectorFile.open(left) as first, VectorFile.open(right) as second:
        ids = first.ids, second.ids
        index = read_pairs(pairs, ids, (left, right))
        x, y = first[ids[0]], second[ids[1]]
    say(f"{len(x)} x {x.shape[1]} and {len(y)} x {y.shape[1]} vectors, {len(index)} pairs")
    beside = None if prior is None else (read_numbers(prior, ids[0]), read_numbers(prior, ids[1]))
    alignment.fit(x, y, index, **({} if beside is None else {"prior": beside}))
    held_out = len(index) >= LEAST_PAIRS and folds > 0
    if held_out:
        say("fitted; now scoring on held-out pairs")
        scores = cross_validate(
            _chosen(alignment), x.astype(np.float64), y.astype(np.float64), index, count=folds, prior=beside
        )
    else:
        scores = training_scores(alignment, x.astype(np.float64), y.astype(np.float64), index)
    sources = {"left": str(left), "right": str(right), "pairs": str(pairs)}
    if prior is not None:
        sources["prior"] = str(prior)
    report = AlignReport(out, len(index), len(x), len(y), scores.summary(), held_out, alignment)
    _save(report, sources, (left_name, right_name))
    return report


def read_numbers(path: Path, ids: Sequence[str]) -> NDArray[np.float64]:
    """Numbers [len(ids)] of ids from a file of two columns, id and number; ``#`` starts a comment.

    Raises
    ------
    DataError
        If a line has another form or an id is missing.
    """
    found: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.partition("#")[0].split()
        if not cells:
            continue
        try:
            found[cells[0]] = float(cells[1])
        except (IndexError, ValueError):
            if number > 1:  # the first line may be a header
                raise DataError("not an id and a number", where=f"{path}:{number}", got=line[:60]) from None
    missing = [id for id in ids if id not in found]
    if missing:
        raise DataError(
            "no number for every id", where=str(path), got=f"{len(missing)} missing, such as {missing[0]!r}"
        )
    return np.array([found[id] for id in ids])


def _chosen(alignment: Any) -> Any:
    """An unfitted copy with the settings that were chosen, where the alignment chooses any."""
    return alignment.with_chosen() if hasattr(alignment, "with_chosen") else clone(alignment)


def to_model(alignment: Any, names: tuple[str, str], sources: tuple[str, str] = ("", "")) -> TwoTower:
    """A fitted alignment as a model with two vector sides and linear heads.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(size=(9, 3))
    >>> fitted = TransportAlignment(dim=2, method="cca").fit(z, z, [(i, i) for i in range(9)])
    >>> model = to_model(fitted, ("image", "text"))
    >>> model.names, model.dim
    (('image', 'text'), 2)
    """
    maps = alignment.maps_
    standards = (
        (alignment.left_mean_, alignment.left_scale_, maps.left_mean, maps.left_weight),
        (alignment.right_mean_, alignment.right_scale_, maps.right_mean, maps.right_weight),
    )
    sides = [
        VectorsModality(len(standard[0]), stands_for=name, source=source)
        for name, source, standard in zip(names, sources, standards, strict=True)
    ]
    model = TwoTower(sides[0], sides[1], dim=len(maps.left_weight), head="linear")
    for side, (mean, scale, centre, weight) in zip(sides, standards, strict=True):
        side.encoder.mean.copy_(torch.from_numpy(mean))
        side.encoder.deviation.copy_(torch.from_numpy(scale))
        head: Any = model.heads[side.name]
        head.start_from(torch.from_numpy(centre).float(), torch.from_numpy(weight).float())
    return model.eval()


def _name(alignment: Any) -> str:
    """Name of the method."""
    if isinstance(alignment, TransportAlignment):
        return str(alignment.method)
    return next(name for name, kind in METHODS.items() if kind is type(alignment))


def _save(report: AlignReport, sources: dict[str, str], names: tuple[str, str]) -> None:
    alignment = report.alignment
    settings = {k: v for k, v in _chosen(alignment).get_params().items() if v is not None}
    facts = {
        "objective": _name(alignment),
        "pairs": report.pairs,
        "unpaired": [report.left - report.pairs, report.right - report.pairs],
        "sources": sources,
        "settings": settings,
        "scores": {"held_out": report.held_out, **report.scores},
        "rounds": [
            {k: v for k, v in h.items() if np.isfinite(v)} for h in getattr(alignment, "history_", [])
        ],
    }
    model = to_model(alignment, names, (sources["left"], sources["right"]))
    model.save(report.out, facts=facts, card=_card(report, sources, names, settings))


def _card(
    report: AlignReport, sources: dict[str, str], names: tuple[str, str], settings: dict[str, Any]
) -> str:
    chosen = "\n".join(f"- {key}: {value}" for key, value in settings.items())
    results = "\n".join(f"    {line}" for line in report.lines())
    return f"""# Alignment of {names[0]} and {names[1]} vectors

Two linear maps of ready embeddings into one space of {len(report.alignment.maps_.left_weight)} dimensions,
fitted by protclip {protclip.__version__} (method `{_name(report.alignment)}`).

- {names[0]}: {sources["left"]}
- {names[1]}: {sources["right"]}
- pairs: {sources["pairs"]}

## Result

{results}

## Settings

{chosen}

## Use

    protclip embed FOLDER -i vectors.h5 -o out.h5 --modality {names[0]}

## Limits

The maps are linear and were fitted to few pairs. Unpaired items, where used, guided the fit as soft
matches of like kind; that is no evidence that a nearest item is the true partner. New vectors must come
from the same two models.
"""
