"""Evaluate a trained model on matched items of its source that it has not seen."""

from __future__ import annotations

from protclip.config.sources import SourceOptions
from protclip.errors import ConfigError, DataError
from protclip.inference.aligned_model import AlignedModel
from protclip.inference.encode import embed_items
from protclip.modalities.items import Chosen
from protclip.relations.pairs import Source
from protclip.scoring.galleries import Evaluation, score
from protclip.typing import Say


def evaluate_held_out(
    model: AlignedModel,
    options: SourceOptions,
    *,
    split: str = "auto",
    block: int | None = None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Retrieval in both directions and k-NN accuracy where items have classes.

    Parameters
    ----------
    model : AlignedModel
    options : SourceOptions
        Where the items are; of the kind of source that the model was trained on.
    split : {"auto", "all"}
        ``auto`` scores what was held out of training, ``all`` every item.
    block : int, optional
        Score within blocks of this many items.
    say : callable
        Gets a sentence for every choice and every item left out.

    Raises
    ------
    ConfigError, DataError
        If the options do not fit the model, or fewer than two items are left.
    """
    if split not in ("auto", "all"):
        raise ConfigError("unknown split", where="--split", got=repr(split), expected="auto or all")
    names = model.towers.names
    source: Source = options.open()
    sides = list(model.towers.sides.values())
    gallery, items = source.held_out(sides, model.facts, split=split, say=say)
    if len(gallery) < 2:
        raise DataError("too few items to score", where=options.kind, got=str(len(gallery)))
    vectors = [
        embed_items(model.towers, name, Chosen(own, index), precision=model.precision)
        for name, own, index in zip(names, items, gallery.rows.T, strict=True)
    ]
    return score(vectors, gallery, names, block)
