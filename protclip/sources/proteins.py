"""The protein source: a CATH corpus and what joins it, as structures and sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from protclip.config.pretraining import DataConfig
from protclip.config.protein_options import ProteinOptions
from protclip.data.corpus.store import Corpus
from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError
from protclip.modalities.base import Modality
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.modalities.vectors import VectorsModality
from protclip.relations.pairs import AlignmentData, HeldOut, ListItems, Setup
from protclip.relations.splits import (
    Splits,
    assign_pairs,
    overlap_by_pdb,
    pairing_clusters,
    split_by_superfamily,
)
from protclip.scoring.galleries import Gallery
from protclip.sources.protein_items import (
    CorpusStructures,
    VectorItems,
    extra_others,
    extra_structures,
    open_corpus,
)
from protclip.structure.encoders.by_name import encoder_config
from protclip.typing import Indices, Say

TRAINING_GROUPS_KEY = "train_superfamilies"


def sequence_side(options: ProteinOptions, seed: int, say: Say) -> SequenceModality:
    """The ESM-2 side, with weights as asked for."""
    side = SequenceModality.create(
        options.sequence_encoder,
        weights=options.esm_weights or None,
        init=options.esm_init,
        tune=options.tune,
        seed=seed,
    )
    origin = side.provenance
    if origin.message:
        say(f"WARNING: {origin.message}" if origin.fallback else origin.message)
    return side


class ProteinSource:
    """A CATH corpus and what joins it, as :class:`protclip.relations.pairs.Source`."""

    def __init__(self, options: ProteinOptions) -> None:
        self.options = options

    def setup(
        self, division: DataConfig, *, all_paired: bool = False, seed: int = 0, say: Say = lambda text: None
    ) -> Setup:
        """Both sides, and the domains divided by superfamily and S35 cluster; see the protocol."""
        options = self.options
        corpus = open_corpus(options.cath, min_plddt=options.min_plddt, say=say)
        left = StructureModality(
            encoder_config(options.structure_encoder, options.structure_size, input=options.structure_input),
            min_plddt=options.min_plddt,
        )
        vectors = VectorFile.open(options.vectors) if options.vectors else None
        rows, notices = _usable(corpus, vectors, options.vectors, np.arange(len(corpus)))
        resolved: dict[str, Any] = {}
        remarks: list[str] = []
        right: Modality[Any]
        if vectors is not None:
            right = VectorsModality(vectors.dim, stands_for="sequence", source=Path(options.vectors).name)
        else:
            right = sequence_side(options, seed, say)
            origin = right.provenance
            resolved = {"sequence_encoder": origin.name, "esm_init": origin.kind, "tune": right.tune}
            if origin.message:
                remarks.append(origin.message)
            long = right.remarks(corpus.sequences(rows))
            notices += [f"{count} sequences are {text}" for text, count in long.items()]

        ids = [corpus.ids[i] for i in rows]
        codes, clusters = corpus.codes[rows].tolist(), corpus.clusters[rows].tolist()
        sequences = corpus.sequences(rows)
        sizes = corpus.lengths[rows].astype(np.int64)
        structures: Sequence[Any] = CorpusStructures(corpus, rows)
        others: Sequence[Any] = VectorItems(vectors, ids) if vectors is not None else sequences

        splits = _split(corpus, rows, division)
        fraction = 1.0 if all_paired else division.paired
        grouped = pairing_clusters(corpus.codes[rows], corpus.clusters[rows])
        pairing = assign_pairs(grouped, fraction, seed, division.pools, ids=ids, index=splits.train)
        train = splits.train
        paired, pool_left, pool_right = pairing
        extra_left, left_notes = extra_structures(left, options.unpaired_structures, splits, sequences)
        extra_right, right_notes = extra_others(right, options.unpaired_sequences, vectors, splits, sequences)
        notices += left_notes + right_notes

        n = len(ids)
        galleries = [
            _gallery(np.asarray(index), ids, codes, clusters, sizes) for index in (splits.valid, splits.test)
        ]
        facts = {
            "corpus": options.cath or "the corpus shipped with protclip",
            "corpus_fingerprint": corpus.fingerprint,
            "domains": n,
            "train_domains": len(train),
            "valid_domains": len(splits.valid),
            "test_domains": len(splits.test),
            "paired_fraction": fraction,
            "pairs": len(paired),
            "unpaired_structures": len(pool_left) + len(extra_left),
            "unpaired_sequences": len(pool_right) + len(extra_right),
            "pools": division.pools,
            "pairing": "by S35 cluster, held-out split by superfamily",
            TRAINING_GROUPS_KEY: sorted({codes[i] for i in train if codes[i]}),
        }
        shared = overlap_by_pdb([ids[i] for i in train], [ids[i] for i in splits.test])
        if shared:
            facts["test_domains_whose_pdb_entry_is_in_training"] = len(shared)
        return Setup(
            left,
            right,
            AlignmentData(
                ListItems(structures, extra_left),
                ListItems(others, extra_right),
                np.stack([paired, paired], 1),
                np.concatenate([pool_left, n + np.arange(len(extra_left))]).astype(np.int64),
                np.concatenate([pool_right, n + np.arange(len(extra_right))]).astype(np.int64),
                galleries[0],
                galleries[1],
                facts,
                notices,
                {
                    "train": [ids[i] for i in train],
                    "valid": galleries[0].ids,
                    "test": galleries[1].ids,
                    "paired": [ids[i] for i in paired],
                    "unpaired_structures": [ids[i] for i in pool_left],
                    "unpaired_sequences": [ids[i] for i in pool_right],
                },
            ),
            resolved,
            remarks,
        )

    def held_out(
        self, sides: tuple[Modality[Any], Modality[Any]], facts: Mapping[str, Any], *, split: str, say: Say
    ) -> HeldOut:
        """Domains that a trained model has not seen.

        With ``split="auto"`` these are the run's own test domains where the corpus is that of the training,
        and on any other corpus the domains of superfamilies that were not in training.
        """
        vectors = self.options.vectors
        by_vectors = isinstance(sides[1], VectorsModality)
        if by_vectors != bool(vectors):
            raise ConfigError(
                "the model's sequence side was trained on precomputed vectors"
                if by_vectors
                else "the model has its own sequence encoder and takes no vectors",
                where="--vectors",
                got=vectors or "nothing",
                expected="the HDF5 file of the same embedding" if by_vectors else "nothing",
            )
        corpus = open_corpus(self.options.cath, say=say)
        rows = np.arange(len(corpus)) if split == "all" else _unseen(facts, corpus, say)
        file = VectorFile.open(vectors) if by_vectors else None
        rows, notices = _usable(corpus, file, vectors, rows)
        for notice in notices:
            say(notice)
        ids = [corpus.ids[i] for i in rows]
        gallery = _gallery(
            np.arange(len(rows)),
            ids,
            corpus.codes[rows].tolist(),
            corpus.clusters[rows].tolist(),
            corpus.lengths[rows].astype(np.int64),
        )
        right: Sequence[Any] = corpus.sequences(rows) if file is None else VectorItems(file, ids)
        return HeldOut(gallery, CorpusStructures(corpus, rows), right)


def _usable(
    corpus: Corpus, vectors: VectorFile | None, path: str, wanted: Indices
) -> tuple[Indices, list[str]]:
    """Those of the ``wanted`` rows that both sides can take, and why others are left out, in sentences."""
    rows, notices = wanted, []
    if vectors is not None:
        known = set(vectors.ids)
        rows = np.array([i for i in wanted if corpus.ids[i] in known], np.int64)
        if len(rows) == 0 and len(wanted):
            raise DataError(
                "no vector belongs to a domain of the corpus",
                where=f"--vectors {path}",
                got=f"ids such as {vectors.ids[0]!r}",
                expected=f"ids such as {corpus.ids[0]!r}",
            )
        if missing := len(wanted) - len(rows):
            notices.append(f"{missing} of {len(wanted)} domains have no vector in {path} and are left out")
    traceable = np.array(
        [protein.has_ca.any() for part in _parts(rows) for protein in corpus.proteins(part)], bool
    )
    if not traceable.all():
        notices.append(f"{int((~traceable).sum())} domains without any C-alpha are left out")
        rows = rows[traceable]
    return rows, notices


def _parts(rows: Indices, most: int = 1024) -> Iterator[Indices]:
    """Rows in pieces of bounded size."""
    for start in range(0, len(rows), most):
        yield rows[start : start + most]


def _split(corpus: Corpus, rows: Indices, data: DataConfig) -> Splits:
    """The split of the whole corpus, cut down to ``rows`` and numbered within them.

    Splitting before anything is left out makes the held-out part the same for every kind of sequence side.
    """
    whole = split_by_superfamily(
        corpus.codes, corpus.ids, valid=data.valid_fraction, test=data.test_fraction, seed=data.split_seed
    )
    place = np.full(len(corpus), -1)
    place[rows] = np.arange(len(rows))
    parts = (place[part] for part in (whole.train, whole.valid, whole.test))
    return Splits(*(part[part >= 0] for part in parts))


def _gallery(
    index: Indices, ids: Sequence[str], codes: Sequence[str], clusters: Sequence[str], sizes: Indices
) -> Gallery:
    classified = any(codes)
    return Gallery(
        [ids[i] for i in index],
        index,
        index,
        sizes[index],
        [codes[i] for i in index] if classified else None,
        [clusters[i] for i in index] if classified else None,
        scheme="cath",
    )


def _unseen(facts: Mapping[str, Any], corpus: Corpus, say: Say) -> Indices:
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
