"""What a run leaves behind once its model is trained: scores, pictures and the model folder with its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from protclip.files import atomic_write
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.scoring.galleries import Evaluation, score
from protclip.training.loop import Progress
from protclip.training.plots import plot_curves, plot_embedding
from protclip.training.refit import Refit
from protclip.training.report import model_card, ranks_table
from protclip.training.run import Run
from protclip.training.tower_features import gallery_vectors


class Assessment(NamedTuple):
    """How a model does on the test gallery.

    Parameters
    ----------
    evaluation, before : Evaluation or None
        Scores of the model, and of the one that it replaces; None with fewer than two test items.
    card : str
        The model card.
    """

    evaluation: Evaluation | None
    before: Evaluation | None
    card: str


def assess_model(
    model: TwoTower,
    data: AlignmentData,
    *,
    precision: str,
    facts: Mapping[str, Any],
    loss: Mapping[str, Any],
    replaces: TwoTower | None = None,
) -> Assessment:
    """Evaluate a model on the test gallery and write its card.

    Parameters
    ----------
    model : TwoTower
    data : AlignmentData
    precision : {"auto", "fp32", "bf16"}
        In which other towers compute.
    facts, loss : mapping
        What the model was trained on, and by which options of the losses; for the card.
    replaces : TwoTower, optional
        The same towers under their former heads, evaluated as well.
    """

    def evaluate(current: TwoTower | None) -> Evaluation | None:
        if current is None or len(data.test) < 2:
            return None
        vectors = gallery_vectors(current, data.test, data.sides, precision=precision)
        return score(vectors, data.test, current.names)

    before, evaluation = evaluate(replaces), evaluate(model)
    card = model_card(
        names=model.names,
        objective=str(facts.get("objective", "unknown")),
        facts=facts,
        sides={name: side.describe() for name, side in model.sides.items()},
        metrics=evaluation.metrics if evaluation else None,
        loss=loss,
        before=before.metrics if before else None,
    )
    return Assessment(evaluation, before, card)


def finish_run(run: Run, progress: Progress | None, refit: Refit | None) -> Evaluation | None:
    """Evaluate on the test gallery, draw, and write ``metrics.json``, ``ranks.csv`` and the model folder.

    Parameters
    ----------
    run : Run
        With its model as trained; the model folder is its folder ``model``.
    progress : Progress or None
        What the training came to; None where nothing was trained in steps.
    refit : Refit or None
        The model under other heads, which is kept in place of the trained one.

    Returns
    -------
    Evaluation or None
        Scores of the model that is kept; None with fewer than two test items.
    """
    config, train, data, folder = run.config, run.train, run.data, run.folder
    model = run.model if refit is None else refit.model
    facts = {
        "source": config.source.kind,
        "objective": train.objective,
        "seed": train.seed,
        "split_seed": config.data.split_seed,
        "valid_fraction": config.data.valid_fraction,
        "test_fraction": config.data.test_fraction,
        **data.facts,
        **({"refit": refit.facts} if refit is not None else {}),
    }
    evaluation, before, card = assess_model(
        model,
        data,
        precision=train.precision,
        facts=facts,
        loss=config.loss.for_objective(train.objective).to_dict() if train.objective != "cca" else {},
        replaces=run.model if model is not run.model else None,
    )
    if evaluation is not None:
        atomic_write(folder / "ranks.csv", ranks_table(data.test, evaluation, model.names))
    if train.plots:
        _draw(run, progress, evaluation)
    metrics: dict[str, Any] = dict(evaluation.metrics) if evaluation else {}
    metrics["objective"] = train.objective
    metrics["gallery_from"] = config.source.title()
    metrics["sides"] = {name: side.describe() for name, side in model.sides.items()}
    if refit is not None:
        metrics["refit"] = refit.facts
        metrics["before_refit"] = before.metrics if before else None
    if progress is not None:
        metrics["training"] = {"steps": progress.step, "kept_step": progress.best_step, **progress.last}
    atomic_write(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    model.save(folder / "model", facts=facts, card=card)
    return evaluation


def _draw(run: Run, progress: Progress | None, evaluation: Evaluation | None) -> None:
    if evaluation is not None:
        test = run.data.test
        plot_embedding(
            evaluation.vectors,
            test.labels or [""] * len(test),
            run.folder / "embedding.svg",
            run.model.names,
        )
    if progress is not None and progress.step:
        plot_curves(run.folder / "log.csv", run.folder / "curves.svg")
