"""Score a task: headline metric and its companions, per test set, per identity cut-off, per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from protclip.errors import DataError
from protclip.tasks.average_precision import average_precision
from protclip.tasks.calibration import Calibrator, log_loss
from protclip.tasks.definitions import Task
from protclip.tasks.metrics import accuracy, aupr_macro, aupr_micro, fmax
from protclip.typing import Bools, Floats


def score_set(task: Task, scores: Floats, labels: Bools) -> dict[str, Any]:
    """Metrics of one set of proteins.

    Parameters
    ----------
    task : Task
    scores : float array [n, classes]
        Any monotone function of the probabilities.
    labels : bool array [n, classes]

    Returns
    -------
    dict
        ``value`` is the headline metric, None where there is nothing to score; the reason is in ``note``.

    Raises
    ------
    DataError
        If scores are not finite.
    """
    _check_finite(task, scores)
    if len(labels) == 0 or not labels.any():
        note = "no proteins" if len(labels) == 0 else "no protein has a label"
        return {"value": None, "proteins": len(labels), "note": note}
    if task.kind == "single":
        top = accuracy(scores, labels.argmax(1))
        return {
            "value": top.value,
            "metric": "accuracy",
            "accuracy": top.value,
            "commonest_class": top.majority,
            "proteins": top.items,
            "tied": top.tied,
        }
    best = fmax(scores, labels)
    micro, macro = aupr_micro(scores, labels), aupr_macro(scores, labels)
    return {
        "value": best.value,
        "metric": "Fmax",
        "fmax": best.value,
        "threshold": best.threshold,
        "precision": best.precision,
        "recall": best.recall,
        "proteins": best.proteins,
        "without_label_left_out": best.left_out,
        "aupr_micro": micro.value,
        "aupr_micro_chance": micro.chance,
        "aupr_macro": macro.value,
        "classes_with_a_positive": macro.classes,
    }


def _check_finite(task: Task, scores: Floats) -> None:
    finite = np.isfinite(scores)
    if not finite.all():
        raise DataError(
            "scores are not finite",
            where=task.name,
            got=f"{int((~finite).sum())} NaN or infinite",
            hint="Lower the learning rate or use --precision fp32",
        )


def definitions(task: Task) -> dict[str, str]:
    """Every metric that :func:`score_set` gives, in one sentence each."""
    if task.kind == "single":
        return {"accuracy": task.definition}
    one = np.eye(2, dtype=np.bool_)
    return {
        "fmax": task.definition,
        "aupr_micro": aupr_micro(one, one).definition,
        "aupr_macro": aupr_macro(one, one).definition,
    }


def validation_score(task: Task, logits: Floats, labels: Bools) -> tuple[float, float]:
    """Headline metric, and mean log-likelihood: what picks the epoch, and what breaks ties between epochs."""
    _check_finite(task, logits)
    if not labels.any():
        raise DataError("no validation protein has a label, so no epoch can be chosen", where=task.name)
    # Every epoch is scored: the headline alone, without the companions of a test set.
    value = accuracy(logits, labels.argmax(1)).value if task.kind == "single" else fmax(logits, labels).value
    return value, -log_loss(Calibrator("none", task.kind)(logits), labels, task.kind)


def per_class(
    task: Task,
    classes: Sequence[str],
    names: Sequence[str],
    train: Bools,
    sets: Mapping[str, tuple[Floats, Bools]],
) -> list[dict[str, Any]]:
    """One row per class: positives in training and in every test set, and how well they are found.

    Recall of the top class for one class per protein, average precision for several; blank for a class
    without a positive in the set.
    """
    multi = task.kind == "multi"
    precision = {key: average_precision(*pair) for key, pair in sets.items() if multi}
    rows: list[dict[str, Any]] = []
    for c, name in enumerate(classes):
        row: dict[str, Any] = {"class": name, "name": names[c], "train": int(train[:, c].sum())}
        for key, (scores, labels) in sets.items():
            positive = int(labels[:, c].sum()) if len(labels) else 0
            row[key] = positive
            column = f"{key}_{'recall' if task.kind == 'single' else 'average_precision'}"
            if positive == 0:
                row[column] = ""
            elif task.kind == "single":
                row[column] = float((scores[labels[:, c]].argmax(1) == c).mean())
            else:
                row[column] = float(precision[key][c])
        rows.append(row)
    return rows


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, sample standard deviation, and the values themselves.

    Examples
    --------
    >>> spread([0.5, 0.7])["mean"], spread([0.5])["sd"]
    (0.6, None)
    """
    known = [v for v in values if v is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "values": list(values),
    }
