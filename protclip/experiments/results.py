"""The numbers of finished runs, as flat tables."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.errors import DataError
from protclip.experiments.commands import Run
from protclip.experiments.definitions import METRICS, Metric
from protclip.tasks.definitions import find_task

RANKS = "ranks.csv"
"""Written by pretraining and refitting beside ``metrics.json``: how each held-out item fared."""

MODELS = ("pretrain", "refit")
"""Stages that make the model of a run."""


class Ranks(NamedTuple):
    """Held-out items of one run.

    Attributes
    ----------
    ids, groups : list of str
    ahead, tied : int64 arrays [n, 2]
        Items nearer to the query than its partner, and others at its distance, in both directions.
    """

    ids: list[str]
    groups: list[str]
    ahead: NDArray[np.int64]
    tied: NDArray[np.int64]

    def recall(self, k: int) -> NDArray[np.float64]:
        """Share of both directions [n] in which the partner is among the first ``k``, ties in expectation."""
        return np.asarray(np.clip((k - self.ahead) / (self.tied + 1), 0.0, 1.0).mean(1))


@dataclass(frozen=True)
class RunResult:
    """A finished or partly finished run.

    Attributes
    ----------
    run : Run
    numbers : dict
        See :func:`run_numbers`.
    ranks : Ranks or None
    """

    run: Run
    numbers: dict[str, float]
    ranks: Ranks | None


def read_results(runs: Sequence[Run]) -> list[RunResult]:
    """What is there of each run; those without any finished stage are left out."""
    found = []
    for run in runs:
        numbers = run_numbers(run)
        if numbers:
            paths = [stage.folder / stage.results[0] for stage in run.stages if stage.name in MODELS]
            path = (paths[0].parent if paths else run.folder) / RANKS
            found.append(RunResult(run, numbers, read_ranks(path) if path.exists() else None))
    return found


def run_numbers(run: Run) -> dict[str, float]:
    """Every number of a run's finished stages, by name.

    Names are the keys of ``metrics.json`` joined by dots, below the stage's name for downstream tasks and
    zero-shot sets. Beside them stand short ones that need no names of modalities: ``R@1``, ``R@5``, ``R@10``
    and ``median_rank`` (means over both directions), ``length_matched_rank``, ``knn_C`` .. ``knn_H`` (left
    side), ``<task>/<test set>``, ``zero-shot <set>/top1``, and the level of chance as ``chance <name>``.
    """
    numbers: dict[str, float] = {}
    for stage in run.stages:
        if not stage.finished or stage.name == "towers":
            continue
        metrics = _read(stage.folder / stage.results[0])
        prefix = "" if stage.name in MODELS else f"{stage.name}."
        numbers |= {f"{prefix}{key}": value for key, value in _leaves(metrics)}
        if stage.name in MODELS:
            numbers |= _short_names(metrics)
        elif stage.name.startswith("zero-shot"):
            numbers |= _zero_shot(stage.name, metrics)
        else:
            test = metrics.get("test", {})
            for name in test:
                if isinstance(value := test[name].get("value"), (int, float)):
                    numbers[f"{stage.name}/{name}"] = float(value)
    return numbers


def metrics_of(keys: Sequence[str], tasks: Sequence[str], results: Sequence[RunResult]) -> list[Metric]:
    """Metrics of a report: those of the tasks first, then zero-shot sets, then ``keys``; only what occurs."""
    wanted = [
        Metric(f"{task}/{name}", _task_label(task, name), 100.0)
        for task in tasks
        for name in find_task(task).tests
    ]
    present = {key for result in results for key in result.numbers}
    wanted += [
        Metric(key, f"{key.removesuffix('/top1')} %", 100.0)
        for key in sorted(present)
        if key.startswith("zero-shot ") and key.endswith("/top1")
    ]
    wanted += [METRICS[key] for key in keys]
    return [metric for metric in wanted if metric.key in present]


def write_csv(path: Path, results: Sequence[RunResult]) -> None:
    """``arm,method,<conditions>,seed,metric,value``: every number of every run, one to a line."""
    from io import StringIO

    from protclip.files import atomic_write

    conditions = list(dict.fromkeys(key for r in results for key in r.run.arm.condition))
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "method", *conditions, "seed", "metric", "value"])
    for result in results:
        arm = result.run.arm
        head = [arm.slug, arm.method, *(arm.condition.get(key, "") for key in conditions), result.run.seed]
        writer.writerows([*head, name, f"{value:.9g}"] for name, value in result.numbers.items())
    atomic_write(path, text.getvalue())


def read_ranks(path: Path) -> Ranks:
    """Read ``ranks.csv`` of a run.

    Raises
    ------
    DataError
        If it is damaged.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))[1:]
    try:
        counts = np.array([[int(cell) for cell in row[2:6]] for row in rows], np.int64).reshape(-1, 4)
        ids, groups = [row[0] for row in rows], [row[1] for row in rows]
    except (ValueError, IndexError) as error:
        raise DataError("not a file of ranks", where=str(path), got=str(error)) from error
    return Ranks(ids, groups, counts[:, [0, 2]], counts[:, [1, 3]])


def _short_names(metrics: Mapping[str, Any]) -> dict[str, float]:
    retrieval = metrics.get("retrieval")
    if not retrieval:
        return {}
    found: dict[str, float] = {}
    directions = [row for row in retrieval.values() if isinstance(row, Mapping)]
    for key in directions[0]:
        found[key] = float(np.mean([row[key] for row in directions]))
    n = int(retrieval["gallery"])
    found |= {f"chance R@{k}": min(1.0, k / n) for k in (1, 5, 10)}
    found["chance median_rank"] = (n + 1) / 2
    if retrieval.get("length_matched_rank") is not None:
        found["length_matched_rank"] = float(retrieval["length_matched_rank"])
        found["chance length_matched_rank"] = 50.0
    for key, row in metrics.items():
        if key.endswith("_knn"):
            found |= {f"knn_{level}": float(v) for level, v in row.items() if v is not None}
    return found


def _zero_shot(stage: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    scores = metrics["zero_shot"]
    return {f"{stage}/top1": float(scores["top1"]), f"chance {stage}/top1": float(scores["chance_top1"])}


def _task_label(task: str, name: str) -> str:
    metric = "Fmax" if find_task(task).metric == "fmax" else "acc."
    return f"{task} {name.removeprefix('test').strip('_')} {metric} %".replace("  ", " ")


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError("cannot read the scores of a run", where=str(path), got=str(error)) from error
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield path, float(value)
