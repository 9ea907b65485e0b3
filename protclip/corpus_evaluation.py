"""Evaluate a trained protein model on a CATH corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from protclip.data.splits import split_by_superfamily
from protclip.data.store import Corpus
from protclip.data.vectors import VectorFile
from protclip.embedding import AlignedModel
from protclip.errors import ConfigError, DataError
from protclip.evaluation import Evaluation, score
from protclip.inference import embed_items
from protclip.modalities.proteins import (
    TRAINING_GROUPS_KEY,
    CorpusStructures,
    VectorItems,
    gallery_of,
    open_corpus,
)
from protclip.modalities.vectors import VectorsModality


def evaluate_corpus(
    model: AlignedModel,
    cath: str,
    *,
    vectors: str = "",
    split: str = "auto",
    block: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Retrieval in both directions and k-NN accuracy at the CATH levels.

    Parameters
    ----------
    model : AlignedModel
    cath : str
        CATH folder or corpus file; empty for the corpus that ships with protclip.
    vectors : str
        HDF5 embeddings for a model whose sequence side was trained on vectors.
    split : {"auto", "all"}
        ``auto`` scores the run's own test split on the corpus that it was trained on, and on any other
        corpus the domains of superfamilies that were not in training; ``all`` scores every domain.
    block : int, optional
        Score within blocks of this many items.
    say : callable
        Gets a sentence for every choice and every domain left out.

    Raises
    ------
    ConfigError, DataError
        If ``vectors`` are missing or superfluous, or fewer than two domains are left.
    """
    if split not in ("auto", "all"):
        raise ConfigError("unknown split", where="--split", got=repr(split), expected="auto or all")
    names = model.towers.names
    right_side = model.towers.sides[names[1]]
    by_vectors = isinstance(right_side, VectorsModality)
    if by_vectors != bool(vectors):
        raise ConfigError(
            "the model's sequence side was trained on precomputed vectors"
            if by_vectors
            else "the model has its own sequence encoder and takes no vectors",
            where="--vectors",
            got=vectors or "nothing",
            expected="the HDF5 file of the same embedding" if by_vectors else "nothing",
        )
    corpus = open_corpus(cath, say=say)
    rows = np.arange(len(corpus)) if split == "all" else _unseen(model, corpus, say)
    right: Any
    if by_vectors:
        file = VectorFile.open(vectors)
        known = set(file.ids)
        kept = np.array([i for i in rows if corpus.ids[i] in known], np.int64)
        if len(kept) < len(rows):
            say(f"{len(rows) - len(kept)} of {len(rows)} domains have no vector and are left out")
        rows = kept
        right = VectorItems(file, [corpus.ids[i] for i in rows])
    else:
        right = corpus.sequences(rows)
    if len(rows) < 2:
        raise DataError("too few domains to score", where=cath or "the shipped corpus", got=str(len(rows)))
    left = CorpusStructures(corpus, rows)
    vectors_left = embed_items(model.towers, names[0], list(left), precision=model.precision)
    vectors_right = embed_items(model.towers, names[1], list(right), precision=model.precision)
    return score(vectors_left, vectors_right, gallery_of(corpus, rows), names, block)


def _unseen(model: AlignedModel, corpus: Corpus, say: Callable[[str], None]) -> Any:
    facts = model.facts
    codes = [str(code) for code in corpus.codes]
    if facts.get("corpus_fingerprint") == corpus.fingerprint:
        splits = split_by_superfamily(
            codes,
            corpus.ids,
            valid=facts["valid_fraction"],
            test=facts["test_fraction"],
            seed=facts["split_seed"],
        )
        say(f"the corpus is the training corpus: scoring its {len(splits.test)} held-out test domains")
        return np.asarray(splits.test)
    trained = set(facts.get(TRAINING_GROUPS_KEY, []))
    rows = np.array([i for i, code in enumerate(codes) if code not in trained], np.int64)
    say(
        f"{len(codes) - len(rows)} of {len(codes)} domains belong to superfamilies of the training set "
        "and are left out (--split all keeps them)"
    )
    return rows
