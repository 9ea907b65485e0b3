"""The protein source: a CATH corpus and further data, as structures and sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from protclip.relations.equal_contents import EQUAL_KEY, join_equal
from protclip.relations.pairs import AlignmentData, HeldOut, ListItems, Side
from protclip.relations.splits import (
    Splits,
    assign_pairs,
    pairing_clusters,
    split_by_superfamily,
)
from protclip.sources.domains import TRAINING_GROUPS_KEY, Domains, domain_facts, ids_of_parts, split_rows
from protclip.sources.protein_items import (
    CorpusStructures,
    VectorItems,
    extra_others,
    extra_structures,
    open_corpus,
)
from protclip.structure.encoders.by_name import encoder_config
from protclip.typing import Indices, Say


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
    """A CATH corpus and further data, as :class:`protclip.relations.pairs.Source`."""

    def __init__(self, options: ProteinOptions) -> None:
        self.options = options

    def setup(self, split: DataConfig, *, seed: int = 0, say: Say = lambda text: None) -> AlignmentData:
        """Both sides, and the domains divided by superfamily and S35 cluster; see the protocol."""
        options = self.options
        corpus = open_corpus(options.cath, min_plddt=options.min_plddt, say=say)
        structures = StructureModality(
            encoder_config(options.structure_encoder, options.structure_size, input=options.structure_input),
            min_plddt=options.min_plddt,
        )
        vectors = VectorFile.open(options.vectors) if options.vectors else None
        rows, notices = _usable(corpus, vectors, options.vectors, np.arange(len(corpus)))
        second = self._second_side(vectors, corpus.sequences(rows), seed, say)
        domains = Domains.of(corpus, rows)
        splits = split_rows(corpus, rows, split)
        clusters = pairing_clusters(corpus.codes[rows], corpus.clusters[rows])
        pairing = assign_pairs(
            join_equal(clusters, domains.ids, domains.sequences),
            split.paired,
            seed,
            split.pools,
            ids=domains.ids,
            index=splits.train,
        )
        extra, left_out = self._extra_items((structures, second.modality), vectors, splits, domains)
        own: tuple[Sequence[Any], Sequence[Any]] = (
            CorpusStructures(corpus, rows),
            VectorItems(vectors, domains.ids) if vectors is not None else domains.sequences,
        )
        sides = tuple(
            Side(modality, ListItems(items, more), _pool(unpaired, len(rows), len(more)))
            for modality, items, more, unpaired in zip(
                (structures, second.modality), own, extra, pairing.unpaired, strict=True
            )
        )
        return AlignmentData(
            (sides[0], sides[1]),
            np.stack([pairing.paired, pairing.paired], 1),
            domains.gallery(splits.valid),
            domains.gallery(splits.test),
            domain_facts(
                options.cath, corpus, domains, splits, pairing, split, [len(side.pool) for side in sides]
            ),
            [*notices, *domains.notices(), *second.notices, *left_out],
            ids_of_parts(domains, splits, pairing),
            second.resolved,
            second.remarks,
        )

    def _second_side(
        self, vectors: VectorFile | None, sequences: Sequence[str], seed: int, say: Say
    ) -> SecondSide:
        """Sequences, or the vectors that stand for them."""
        options = self.options
        if vectors is not None:
            source = Path(options.vectors).name
            return SecondSide(VectorsModality(vectors.dim, stands_for="sequence", source=source))
        modality = sequence_side(options, seed, say)
        origin = modality.provenance
        return SecondSide(
            modality,
            {"sequence_encoder": origin.name, "esm_init": origin.kind, "tune": modality.tune},
            [origin.message] if origin.message else [],
            [f"{count} sequences are {text}" for text, count in modality.remarks(sequences).items()],
        )

    def _extra_items(
        self,
        modalities: tuple[StructureModality, Modality[Any]],
        vectors: VectorFile | None,
        splits: Splits,
        domains: Domains,
    ) -> tuple[tuple[list[Any], list[Any]], list[str]]:
        """Truly unpaired items of both sides from files, and what was left out of them."""
        held = {domains.sequences[i] for i in (*splits.valid, *splits.test)}
        first, notes = extra_structures(modalities[0], self.options.unpaired_structures, held)
        second, more = extra_others(modalities[1], self.options.unpaired_sequences, vectors, held)
        return (first, second), notes + more

    def held_out(
        self, sides: Sequence[Modality[Any]], facts: Mapping[str, Any], *, split: str, say: Say
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
        domains = Domains.of(corpus, rows)
        second: Sequence[Any] = domains.sequences if file is None else VectorItems(file, domains.ids)
        return HeldOut(domains.gallery(np.arange(len(rows))), (CorpusStructures(corpus, rows), second))


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


@dataclass(frozen=True)
class SecondSide:
    """The modality beside the structures, options that were left open to it, and what to say of it."""

    modality: Modality[Any]
    resolved: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def _pool(unpaired: Indices, own: int, extra: int) -> Indices:
    """Numbers of the items without partner: those of the corpus, and the extra ones behind all of it."""
    return np.concatenate([unpaired, own + np.arange(extra)]).astype(np.int64)


def _unseen(facts: Mapping[str, Any], corpus: Corpus, say: Say) -> Indices:
    codes = [str(code) for code in corpus.codes]
    if facts.get("corpus_fingerprint") == corpus.fingerprint:
        splits = split_by_superfamily(
            codes,
            corpus.ids,
            valid=facts["valid_fraction"],
            test=facts["test_fraction"],
            seed=facts["split_seed"],
            # A model trained before copies were kept together does not say how many there were.
            contents=corpus.sequences(np.arange(len(corpus))) if EQUAL_KEY in facts else None,
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
