"""The domains of a corpus as a run sees them: who is held out, and what the run says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protclip.config.pretraining import DataConfig
from protclip.data.corpus.store import Corpus
from protclip.relations.equal_contents import EQUAL_KEY, count_equal
from protclip.relations.splits import (
    Pairing,
    Splits,
    overlap_by_pdb,
    split_by_superfamily,
)
from protclip.scoring.galleries import Gallery
from protclip.typing import Indices

TRAINING_GROUPS_KEY = "train_superfamilies"


def split_rows(corpus: Corpus, rows: Indices, split: DataConfig) -> Splits:
    """The split of the whole corpus, cut down to ``rows`` and numbered within them.

    Splitting before anything is left out makes the held-out part the same for every kind of sequence side.
    """
    whole = split_by_superfamily(
        corpus.codes,
        corpus.ids,
        valid=split.valid_fraction,
        test=split.test_fraction,
        seed=split.split_seed,
        contents=corpus.sequences(np.arange(len(corpus))),
    )
    place = np.full(len(corpus), -1)
    place[rows] = np.arange(len(rows))
    parts = (place[part] for part in (whole.train, whole.valid, whole.test))
    return Splits(*(part[part >= 0] for part in parts))


@dataclass(frozen=True)
class Domains:
    """What a corpus says of its domains, n of them."""

    ids: list[str]
    sequences: list[str]
    codes: list[str]
    clusters: list[str]
    sizes: Indices

    @classmethod
    def of(cls, corpus: Corpus, rows: Indices) -> Domains:
        """Those of some rows."""
        return cls(
            [corpus.ids[i] for i in rows],
            corpus.sequences(rows),
            corpus.codes[rows].tolist(),
            corpus.clusters[rows].tolist(),
            corpus.lengths[rows].astype(np.int64),
        )

    def notices(self) -> list[str]:
        """What a user should know of them before training."""
        if copies := count_equal(self.sequences):
            return [f"{copies} domains have the sequence of another one; such domains stay in one part"]
        return []

    def gallery(self, index: Indices) -> Gallery:
        """Some of them for retrieval, structure i with sequence i."""
        classified = any(self.codes)
        return Gallery(
            [self.ids[i] for i in index],
            np.stack([index, index], 1),
            self.sizes[index],
            [self.codes[i] for i in index] if classified else None,
            [self.clusters[i] for i in index] if classified else None,
            scheme="cath",
        )


def domain_facts(
    cath: str,
    corpus: Corpus,
    domains: Domains,
    splits: Splits,
    pairing: Pairing,
    split: DataConfig,
    unpaired: Sequence[int],
) -> dict[str, Any]:
    """Counts and provenance for config, split file and model card."""
    ids, train = domains.ids, splits.train
    facts: dict[str, Any] = {
        "corpus": cath or "the corpus shipped with protclip",
        "corpus_fingerprint": corpus.fingerprint,
        "domains": len(ids),
        "train_domains": len(train),
        "valid_domains": len(splits.valid),
        "test_domains": len(splits.test),
        "paired_fraction": split.paired,
        "pairs": len(pairing.paired),
        "unpaired_structures": unpaired[0],
        "unpaired_sequences": unpaired[1],
        "pools": split.pools,
        "pairing": "by S35 cluster, held-out split by superfamily",
        TRAINING_GROUPS_KEY: sorted({domains.codes[i] for i in train if domains.codes[i]}),
    }
    # Of the whole corpus, which is what is split; the copies may be domains that are left out.
    if copies := count_equal(corpus.sequences(np.arange(len(corpus)))):
        facts[EQUAL_KEY] = copies
    shared = overlap_by_pdb([ids[i] for i in train], [ids[i] for i in splits.test])
    if shared:
        facts["test_domains_whose_pdb_entry_is_in_training"] = len(shared)
    return facts


def ids_of_parts(domains: Domains, splits: Splits, pairing: Pairing) -> dict[str, Any]:
    """What ``split.json`` holds."""
    parts = {
        "paired": pairing.paired,
        "unpaired_structures": pairing.unpaired[0],
        "unpaired_sequences": pairing.unpaired[1],
    }
    found = {name: [domains.ids[i] for i in index] for name, index in parts.items()}
    copies = count_equal(domains.sequences)
    return {**splits.to_dict(domains.ids), **found, **({EQUAL_KEY: copies} if copies else {})}
