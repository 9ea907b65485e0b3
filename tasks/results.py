"""Score a trained network on the test sets, once, and write the run folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.errors import DataError
from protclip.files import atomic_write
from protclip.modalities.structure import StructureModality
from protclip.tasks.calibration import Calibrator, log_loss, reliability
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.dataset import TaskData, demonstration_note
from protclip.tasks.definitions import Recipe, comparison
from protclip.tasks.evaluation import definitions, per_class, score_set, spread
from protclip.tasks.network import TaskNetwork
from protclip.tasks.plots import plot_classes, plot_precision_recall, plot_reliability
from protclip.tasks.report import class_table, head_card
from protclip.tasks.saved_head import copy_head, save_head
from protclip.tasks.trained import Trained
from protclip.training.plots import plot_curves
from protclip.typing import Vectors


class Results:
    """Scores, tables, figures and the head of one seed.

    Parameters
    ----------
    config : FinetuneConfig
    data : TaskData
    """

    def __init__(self, config: FinetuneConfig, data: TaskData) -> None:
        self.config, self.data, self.task = config, data, data.task

    def finish(self, recipe: Recipe, trained: Trained, seed: int, folder: Path) -> dict[str, Any]:
        """Score the test sets, once, and write everything."""
        task, data, network = self.task, self.data, trained.network
        sets: dict[str, tuple[Vectors, NDArray[np.bool_]]] = {}
        for name in data.tests:
            rows = data.splits[name]
            sets[name] = trained.predict(data, rows), data.labels[rows]
        tests: dict[str, Any] = {name: score_set(task, *pair) for name, pair in sets.items()}
        headline = task.headline if task.headline in sets else next(iter(sets), "")
        for cutoff, rows in data.subsets().items():
            inside = np.isin(data.splits[headline], rows)
            scores, labels = sets[headline]
            tests[f"{headline} <{cutoff}%"] = score_set(task, scores[inside], labels[inside])
        truth = data.labels[data.splits["valid"]]
        alone: dict[str, Any] = {}
        if trained.alone is not None:
            alone = {
                "valid": score_set(task, trained.alone.valid, truth),
                "test": {
                    name: score_set(task, trained.predict(data, data.splits[name], alone=True), labels)
                    for name, (_, labels) in sets.items()
                },
            }
        metrics = {
            **self._facts(),
            "seed": seed,
            "headline": {
                "set": headline,
                "metric": task.metric,
                "value": tests.get(headline, {}).get("value"),
                "definition": task.definition,
            },
            "test": tests,
            "valid": score_set(task, trained.valid, truth),
            "sequence_only": alone,
            "definitions": definitions(task),
            "calibration": self._calibration(trained, truth, sets.get(headline)),
            "training": {
                **{k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("cdconv", "gearnet")},
                "structure_encoder": _structure_encoder(network),
                "kept_epoch": trained.progress.best_epoch,
                "stopped_early": trained.progress.stopped_early,
                "seconds": round(trained.progress.total_seconds, 1),
                "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
            },
            "parent": trained.parent.facts,
            "towers": {name: side.describe() for name, side in network.sides.items()},
        }
        rows_ = per_class(task, data.classes, data.class_names, data.labels[data.splits["train"]], sets)
        title = data.title
        if data.demonstration and self.config.fallback:
            title += f"; {demonstration_note(self.config.fallback)}"
        atomic_write(folder / "per_class.tsv", class_table(rows_, title))
        self._draw(trained, sets, headline, folder)
        save_head(
            folder / "head",
            network,
            head={
                "task": task.name,
                "kind": task.kind,
                "benchmark": str(data.benchmark.version),
                "demonstration": data.demonstration,
                "threshold_fmax": trained.threshold,
                "calibration": trained.calibrator.config(),
                "classes": data.classes,
                "class_names": data.class_names,
                "sequence_only": {
                    "calibration": trained.alone.calibrator.config(),
                    "threshold_fmax": trained.alone.threshold,
                    "valid": alone["valid"]["value"],
                }
                if trained.alone is not None
                else {},
            },
            facts={
                "parent": trained.parent.facts,
                "seed": seed,
                "mode": self.config.mode,
                "towers": self.config.towers,
                "fusion": self.config.fusion,
                "features": self.config.features,
                "kept_epoch": trained.progress.best_epoch,
                "valid": metrics["valid"]["value"],
                "test": {name: row["value"] for name, row in tests.items()},
            },
            card=head_card(metrics),
        )
        # Written last: a run with this file is finished.
        return write_metrics(folder, metrics)

    def _facts(self) -> dict[str, Any]:
        config, data = self.config, self.data
        return {
            "task": self.task.name,
            "benchmark": {
                "version": str(data.benchmark.version),
                "demonstration": data.demonstration,
                "note": demonstration_note(config.fallback) if data.demonstration else "",
                "published_protocol": self.task.protocol,
                "classes": len(data.classes),
                "splits": data.counts(),
                "missing": len(data.benchmark.missing),
                "left_out": data.notices,
                **({"sequence_in_training": data.in_training} if data.in_training else {}),
            },
            "towers_used": config.towers,
            "mode": config.mode,
            "fusion": config.fusion,
            "features": config.features,
            "class_weights": "from training labels" if config.class_weights else "none",
            "propagated": False,
            "comparison": comparison(
                self.task, version=str(data.benchmark.version), demonstration=data.demonstration
            ),
        }

    def _calibration(
        self, trained: Trained, truth: NDArray[np.bool_], test: tuple[Vectors, NDArray[np.bool_]] | None
    ) -> dict[str, Any]:
        kind, plain = self.task.kind, Calibrator("none", self.task.kind)
        found: dict[str, Any] = {
            "method": trained.calibrator.method,
            "fitted_on": "valid",
            "threshold_fmax": trained.threshold,
        }
        for name, pair in (("valid", (trained.valid, truth)), ("test", test)):
            if pair is not None and len(pair[0]) and pair[1].any():
                logits, labels = pair
                found[name] = {
                    "log_loss_before": log_loss(plain(logits), labels, kind),
                    "log_loss": log_loss(trained.calibrator(logits), labels, kind),
                    "ece_before": reliability(plain(logits), labels, kind)["ece"],
                    "ece": reliability(trained.calibrator(logits), labels, kind)["ece"],
                }
        return found

    def _draw(
        self,
        trained: Trained,
        sets: dict[str, tuple[Vectors, NDArray[np.bool_]]],
        headline: str,
        folder: Path,
    ) -> None:
        data = self.data
        plot_curves(folder / "log.csv", folder / "curves.svg")
        truth = data.labels[data.splits["valid"]]
        curves = {"valid": (trained.valid, truth)}
        if headline in sets and len(sets[headline][0]) and sets[headline][1].any():
            curves[headline] = sets[headline]
        calibrated = {name: (trained.calibrator(x), y) for name, (x, y) in curves.items()}
        plot_reliability(calibrated, self.task.kind, data.title, folder / "reliability.svg")
        if self.task.kind == "multi":
            plot_precision_recall(calibrated, data.title, folder / "precision_recall.svg")
        else:
            plot_classes(*list(curves.values())[-1], data.classes, data.title, folder / "confusion.svg")


def _structure_encoder(network: TaskNetwork) -> dict[str, Any]:
    """Kind and configuration of the structure tower; empty without one."""
    side = network.sides.get("structure")
    if not isinstance(side, StructureModality):
        return {}
    return {"kind": side.architecture.kind, **side.architecture.to_dict()}


def summarise(folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds; the head with the best validation score becomes the run's."""
    first = results[0]
    names = list(first["test"])
    best = max(range(len(results)), key=lambda i: results[i]["valid"]["value"])
    shared = ("task", "benchmark", "towers_used", "mode", "fusion", "features", "class_weights")
    summary = {
        **{key: first[key] for key in (*shared, "propagated", "comparison", "definitions", "parent")},
        "seeds": [r["seed"] for r in results],
        "headline": {
            **{k: v for k, v in first["headline"].items() if k != "value"},
            **spread([r["headline"]["value"] for r in results]),
        },
        "test": {name: spread([r["test"][name]["value"] for r in results]) for name in names},
        "valid": spread([r["valid"]["value"] for r in results]),
        "head_of_seed": results[best]["seed"],
    }
    if first["sequence_only"]:
        summary["sequence_only"] = {
            "valid": spread([r["sequence_only"]["valid"]["value"] for r in results]),
            "test": {
                name: spread([r["sequence_only"]["test"][name]["value"] for r in results])
                for name in first["sequence_only"]["test"]
            },
        }
    copy_head(folder / f"seed-{results[best]['seed']}" / "head", folder / "head")
    return write_metrics(folder, summary)


def read_metrics(path: Path) -> dict[str, Any]:
    """What :func:`write_metrics` wrote.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return {**found, "test": found["test"]}
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(
            "the scores of a finished run are damaged",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            hint="Remove the file, and --resume trains again",
        ) from error


def write_metrics(folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Write ``metrics.json``; returns what it holds."""
    text = json.dumps(metrics, indent=2) + "\n"
    atomic_write(folder / "metrics.json", text)
    found: dict[str, Any] = json.loads(text)
    return found
