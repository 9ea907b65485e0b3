"""What a run leaves behind once its model is trained: scores, pictures and the model folder with its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protclip.evaluation import Evaluation, gallery_vectors, score
from protclip.files import atomic_write
from protclip.modalities.pairs import Setup
from protclip.model import TwoTower
from protclip.options import PretrainConfig
from protclip.training.loop import Progress
from protclip.training.plots import plot_curves, plot_embedding
from protclip.training.refit import Refit
from protclip.training.report import model_card, ranks_table
from protclip.training.tower_features import Features


def finish_run(
    model: TwoTower,
    setup: Setup,
    features: Features,
    *,
    config: PretrainConfig,
    folder: Path,
    progress: Progress | None,
    refit: Refit | None,
) -> Evaluation | None:
    """Evaluate on the test gallery, draw, and write ``metrics.json``, ``ranks.csv`` and the model folder.

    Parameters
    ----------
    model : TwoTower
        As trained.
    setup : Setup
        Both sides of the model and the data.
    features : pair of float32 tensors [n, d_left], [m, d_right] or None
        Of the towers that were not trained.
    config : PretrainConfig
        Options of the run, resolved.
    folder : Path
        Run folder; the model goes into its folder ``model``.
    progress : Progress or None
        What the training came to; None where nothing was trained in steps.
    refit : Refit or None
        The model under other heads, which is kept in place of ``model``.

    Returns
    -------
    Evaluation or None
        Scores of the model that is kept; None with fewer than two test items.
    """
    train = config.train
    before = None
    if refit is not None and refit.model is not model:
        before = _evaluate(model, setup, features, train.precision)
        model = refit.model
    evaluation = _evaluate(model, setup, features, train.precision)
    if evaluation is not None:
        test = setup.data.test
        atomic_write(folder / "ranks.csv", ranks_table(test, evaluation, model.names))
        if train.plots:
            plot_embedding(
                evaluation.left,
                evaluation.right,
                test.labels or [""] * len(test),
                folder / "embedding.svg",
                left_name=model.names[0],
                right_name=model.names[1],
            )
    if progress is not None and progress.step and train.plots:
        plot_curves(folder / "log.csv", folder / "curves.svg")
    sides = {side.name: side.describe() for side in (setup.left, setup.right)}
    metrics: dict[str, Any] = dict(evaluation.metrics) if evaluation else {}
    metrics["objective"] = train.objective
    metrics["gallery_from"] = config.source.title()
    metrics["sides"] = sides
    if refit is not None:
        metrics["refit"] = refit.facts
        metrics["before_refit"] = before.metrics if before else None
    if progress is not None:
        metrics["training"] = {"steps": progress.step, "kept_step": progress.best_step, **progress.last}
    atomic_write(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    facts = {
        "source": config.source.kind,
        "objective": train.objective,
        "seed": train.seed,
        "split_seed": config.data.split_seed,
        "valid_fraction": config.data.valid_fraction,
        "test_fraction": config.data.test_fraction,
        **setup.data.facts,
        **({"refit": refit.facts} if refit is not None else {}),
    }
    card = model_card(
        names=model.names,
        objective=train.objective,
        facts=facts,
        sides=sides,
        metrics=evaluation.metrics if evaluation else None,
        loss=config.loss.for_objective(train.objective).to_dict() if train.objective != "cca" else {},
        before=before.metrics if before else None,
    )
    model.save(folder / "model", facts=facts, card=card)
    return evaluation


def _evaluate(model: TwoTower, setup: Setup, features: Features, precision: str) -> Evaluation | None:
    data = setup.data
    if len(data.test) < 2:
        return None
    left, right = gallery_vectors(model, data.test, (data.left, data.right), features, precision=precision)
    return score(left, right, data.test, model.names)
