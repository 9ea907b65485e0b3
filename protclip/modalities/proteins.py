"""Protein data for the training loop: a CATH corpus and what joins it, as structures and sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.data.build import cached_corpus, sample_corpus_dir
from protclip.data.splits import Splits, assign_pairs, overlap_by_pdb, pairing_clusters, split_by_superfamily
from protclip.data.store import Corpus
from protclip.data.vectors import VectorFile
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.modalities.base import Modality
from protclip.modalities.pairs import AlignmentData, Gallery, ListItems, Setup
from protclip.modalities.sequence import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.modalities.vectors import VectorsModality
from protclip.options import DataConfig, ModelConfig
from protclip.structure.encoder import CDConvConfig

Indices = NDArray[np.int64]
Say = Callable[[str], None]
TRAINING_GROUPS_KEY = "train_superfamilies"


class CorpusStructures(Sequence[Any]):
    """Structures of a corpus, read when asked for."""

    def __init__(self, corpus: Corpus, rows: Indices) -> None:
        self.corpus, self.rows = corpus, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.corpus[int(self.rows[index])]


class VectorItems(Sequence[Any]):
    """Precomputed vectors by id, read when asked for."""

    def __init__(self, vectors: VectorFile, ids: Sequence[str]) -> None:
        self.vectors, self.ids = vectors, list(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        return self.vectors[[self.ids[index]]][0]


def open_corpus(cath: str, *, min_plddt: float = 0.0, say: Say = lambda text: None) -> Corpus:
    """The corpus of a CATH folder (built and cached when needed), of a store file, or the shipped one.

    Raises
    ------
    DataError
        If the path is neither.
    """
    path = Path(cath) if cath else sample_corpus_dir()
    if not path.exists():
        raise DataError(
            "no such file or folder",
            where=f"--cath {path}",
            expected="a CATH folder (with dompdb/) or a corpus file of `protclip data build`",
            hint="Leave --cath out to use the small corpus that ships with protclip",
        )
    if path.is_file():
        return Corpus.open(path)
    return Corpus.open(cached_corpus(path, min_plddt=min_plddt or None, say=say))


def sequence_side(model: ModelConfig, seed: int, say: Say) -> SequenceModality:
    """The ESM-2 side, with weights as asked for."""
    side = SequenceModality.create(
        model.sequence_encoder,
        weights=model.esm_weights or None,
        init=model.esm_init,
        tune=model.tune,
        seed=seed,
    )
    origin = side.provenance
    if origin.message:
        say(f"WARNING: {origin.message}" if origin.fallback else origin.message)
    return side


def setup(
    data: DataConfig, model: ModelConfig, *, objective: str, seed: int, say: Say = lambda text: None
) -> Setup:
    """Build both sides and divide the data.

    Parameters
    ----------
    data, model : DataConfig, ModelConfig
    objective : str
        ``clip-all`` pairs everything, whatever ``data.paired`` says.
    seed : int
        Decides which clusters keep their pairing; the held-out split has ``data.split_seed``.
    say : callable
        Gets sentences for the user: weights that were not found, items that were left out.
    """
    corpus = open_corpus(data.cath, min_plddt=data.min_plddt, say=say)
    notices: list[str] = []
    resolved: dict[str, Any] = {}
    remarks: list[str] = []
    rows = np.arange(len(corpus))
    left = StructureModality(
        CDConvConfig.sized(model.structure_size, input=model.structure_input), min_plddt=data.min_plddt
    )
    right: Modality[Any]
    vectors = VectorFile.open(data.vectors) if data.vectors else None
    if vectors is not None:
        known = set(vectors.ids)
        rows = np.array([i for i in rows if corpus.ids[i] in known], np.int64)
        if len(rows) == 0:
            raise DataError(
                "no vector belongs to a domain of the corpus",
                where=f"--vectors {data.vectors}",
                got=f"ids such as {vectors.ids[0]!r}",
                expected=f"ids such as {corpus.ids[0]!r}",
            )
        if missing := len(corpus) - len(rows):
            notices.append(
                f"{missing} of {len(corpus)} domains have no vector in {data.vectors} and are left out"
            )
        right = VectorsModality(vectors.dim, stands_for="sequence", source=Path(data.vectors).name)
    else:
        right = sequence_side(model, seed, say)
        origin = right.provenance
        resolved = {"sequence_encoder": origin.name, "esm_init": origin.kind, "tune": right.tune}
        if origin.message:
            remarks.append(origin.message)
        long = right.remarks(corpus.sequences(rows))
        notices += [f"{count} sequences are {text}" for text, count in long.items()]
    traceable = (
        np.array([bool(corpus[int(i)].has_ca.any()) for i in rows]) if len(rows) else np.zeros(0, bool)
    )
    if not traceable.all():
        notices.append(f"{int((~traceable).sum())} domains without any C-alpha are left out")
        rows = rows[traceable]

    ids = [corpus.ids[i] for i in rows]
    codes = [str(corpus.codes[i]) for i in rows]
    clusters = [str(corpus.clusters[i]) for i in rows]
    sequences = corpus.sequences(rows)
    sizes = corpus.lengths[rows].astype(np.int64)
    structures: Sequence[Any] = CorpusStructures(corpus, rows)
    others: Sequence[Any] = VectorItems(vectors, ids) if vectors is not None else sequences

    splits = _held_out(corpus, rows, data)
    fraction = 1.0 if objective == "clip-all" else data.paired
    grouped = pairing_clusters(corpus.codes[rows], corpus.clusters[rows])
    pairing = assign_pairs(grouped, fraction, seed, data.pools, ids=ids, index=splits.train)
    train = splits.train
    paired, pool_left, pool_right = pairing
    extra_left, left_notes = _extra_structures(left, data.unpaired_structures, splits, sequences)
    extra_right, right_notes = _extra_others(right, data.unpaired_sequences, vectors, splits, sequences)
    notices += left_notes + right_notes

    n = len(ids)
    galleries = [
        Gallery(
            [ids[i] for i in index],
            np.asarray(index),
            np.asarray(index),
            sizes[index],
            [codes[i] for i in index] if any(codes) else None,
            [clusters[i] for i in index] if any(codes) else None,
        )
        for index in (splits.valid, splits.test)
    ]
    facts = {
        "corpus": data.cath or "the corpus shipped with protclip",
        "corpus_fingerprint": corpus.fingerprint,
        "domains": n,
        "train_domains": len(train),
        "valid_domains": len(splits.valid),
        "test_domains": len(splits.test),
        "paired_fraction": fraction,
        "pairs": len(paired),
        "unpaired_structures": len(pool_left) + len(extra_left),
        "unpaired_sequences": len(pool_right) + len(extra_right),
        "pools": data.pools,
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


def _held_out(corpus: Corpus, rows: Indices, data: DataConfig) -> Splits:
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


def _extra_structures(
    side: StructureModality, source: str, splits: Splits, sequences: Sequence[str]
) -> tuple[list[Any], list[str]]:
    if not source:
        return [], []
    items, notes = _read_all(side.read(source), f"--unpaired-structures {source}")
    held = {sequences[i] for i in (*splits.valid, *splits.test)}
    kept = [item for item in items if item.has_ca.any() and item.sequence not in held]
    return kept, notes + _left_out(items, kept, source)


def _extra_others(
    side: Modality[Any], source: str, vectors: VectorFile | None, splits: Splits, sequences: Sequence[str]
) -> tuple[list[Any], list[str]]:
    if not source:
        return [], []
    if vectors is not None and Path(source).suffix not in (".h5", ".hdf5"):
        raise ConfigError(
            "sequences cannot join precomputed vectors",
            where=f"--unpaired-sequences {source}",
            expected="an HDF5 file of vectors of the same kind, since --vectors is given",
        )
    items, notes = _read_all(side.read(source), f"--unpaired-sequences {source}")
    held = set() if vectors is not None else {sequences[i] for i in (*splits.valid, *splits.test)}
    kept = [item for item in items if not (isinstance(item, str) and item in held)]
    return kept, notes + _left_out(items, kept, source)


def _read_all(stream: Iterable[tuple[str, Any]], where: str) -> tuple[list[Any], list[str]]:
    items: list[Any] = []
    failed: Counter[str] = Counter()
    for _, item in stream:
        if isinstance(item, ProtclipError):
            failed[item.message] += 1
        elif isinstance(item, Exception):
            raise item
        else:
            items.append(item)
    if not items:
        raise DataError("nothing readable", where=where, got=f"{sum(failed.values())} unreadable items")
    return items, [f"{where}: {count} left out ({reason})" for reason, count in failed.items()]


def _left_out(items: Sequence[Any], kept: Sequence[Any], source: str) -> list[str]:
    if len(kept) == len(items):
        return []
    return [
        f"{source}: {len(items) - len(kept)} items left out (equal to a held-out domain, or without C-alpha)"
    ]


def gallery_of(corpus: Corpus, rows: Indices) -> Gallery:
    """All domains of ``rows`` as matched items, for evaluation."""
    codes = [str(corpus.codes[i]) for i in rows]
    return Gallery(
        [corpus.ids[i] for i in rows],
        np.arange(len(rows)),
        np.arange(len(rows)),
        corpus.lengths[rows].astype(np.int64),
        codes if any(codes) else None,
        [str(corpus.clusters[i]) for i in rows] if any(codes) else None,
    )
