"""The protein source: copies of a domain under other ids and codes stay in one part, and are counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest

from protclip.config.pretraining import DataConfig
from protclip.config.protein_options import ProteinOptions
from protclip.data.corpus.cath import CathLabel
from protclip.data.corpus.store import write_corpus
from protclip.relations.pairs import AlignmentData
from protclip.sources.proteins import ProteinSource
from protclip.structure.protein import Protein

DOMAINS, COPIES = 40, 20


def _protein(number: int) -> Protein:
    rng = np.random.default_rng(number)
    length = 30 + number
    return Protein(
        f"d{number:02d}",
        "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)),
        rng.normal(size=(length, 4, 3)).astype(np.float32) * 10,
        np.arange(length, dtype=np.int32),
        np.full(length, b"", "S1"),
        None,
        {},
    )


def _source(folder: Path, *, copies: bool) -> ProteinSource:
    """Twenty superfamilies of two domains; with copies, the first domain under twenty ids more."""
    proteins = [_protein(i) for i in range(DOMAINS)]
    labels = {p.id: CathLabel(f"1.{i // 2 + 1}.1.1", i, 1, 1, 1) for i, p in enumerate(proteins)}
    if copies:
        for k in range(COPIES):
            proteins.append(dataclasses.replace(proteins[0], id=f"copy{k:02d}"))
            # Every third without a code, the others in superfamilies of their own.
            if k % 3:
                labels[proteins[-1].id] = CathLabel(f"2.{k}.1.1", 1, 1, 1, 1)
    write_corpus(folder / "c.h5", proteins, labels, {"source": "test"})
    with h5py.File(folder / "vectors.h5", "w") as file:
        for i, protein in enumerate(proteins):
            file[protein.id] = np.random.default_rng([1, i]).normal(size=8).astype(np.float32)
    return ProteinSource(ProteinOptions(cath=str(folder / "c.h5"), vectors=str(folder / "vectors.h5")))


def _copies_by_part(data: AlignmentData) -> set[str]:
    return {part for part in ("train", "valid", "test") for id in data.split[part] if id in _same()}


def _same() -> set[str]:
    return {"d00", *(f"copy{k:02d}" for k in range(COPIES))}


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_in_one_part_and_are_counted(tmp_path: Path, seed: int) -> None:
    data = _source(tmp_path, copies=True).setup(DataConfig(paired=0.5, split_seed=seed), seed=seed)
    assert len(_copies_by_part(data)) == 1
    assert data.split["domains_with_equal_sequences"] == COPIES + 1
    assert data.facts["domains_with_equal_sequences"] == COPIES + 1
    text = f"{COPIES + 1} domains have the sequence of another one; such domains stay in one part"
    assert text in data.notices
    for pool in ("paired", "unpaired_structures"):
        assert len(_same() & set(data.split[pool])) in (0, COPIES + 1)


def test_nothing_is_said_where_there_are_none(tmp_path: Path) -> None:
    data = _source(tmp_path, copies=False).setup(DataConfig(paired=0.5))
    assert "domains_with_equal_sequences" not in {**data.split, **data.facts}
    assert data.notices == []


@pytest.mark.parametrize("seed", range(3))
def test_a_model_is_scored_on_the_split_it_was_trained_with(tmp_path: Path, seed: int) -> None:
    source = _source(tmp_path, copies=True)
    split = DataConfig(paired=0.5, split_seed=seed)
    data = source.setup(split)
    facts = {**data.facts, "valid_fraction": split.valid_fraction, "test_fraction": split.test_fraction}
    facts["split_seed"] = seed
    modalities = [side.modality for side in data.sides]

    def held(facts: dict[str, object]) -> list[str]:
        return source.held_out(modalities, facts, split="auto", say=lambda text: None).gallery.ids

    assert held(facts) == data.split["test"]
    # A model from before copies were kept together has the split of that time.
    del facts["domains_with_equal_sequences"]
    assert held(facts) != data.split["test"]
