"""Splits and pairings: whole clusters, the fractions asked for, the same again with the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.corpus.store import Corpus
from protclip.errors import ConfigError, DataError
from protclip.relations.equal_contents import join_equal
from protclip.relations.splits import (
    Pairing,
    assign_pairs,
    overlap_by_pdb,
    pairing_clusters,
    pdb_code,
    split_by_superfamily,
)

sizes = st.lists(st.integers(1, 12), min_size=4, max_size=25)


def parts_of(pairing: Pairing) -> list[np.ndarray]:
    return [pairing.paired, *pairing.unpaired]


def _members(sizes: list[int]) -> tuple[list[str], list[str]]:
    names = [f"1.{k}.1.1" for k, size in enumerate(sizes) for _ in range(size)]
    return names, [f"d{i:03d}" for i in range(len(names))]


@given(sizes, st.floats(0, 0.4), st.floats(0.01, 0.4), st.integers(0, 99))
@settings(max_examples=40)
def test_split_keeps_superfamilies_whole(sizes: list[int], valid: float, test: float, seed: int) -> None:
    codes, ids = _members(sizes)
    parts = split_by_superfamily(codes, ids, valid=valid, test=test, seed=seed)
    every = np.concatenate([parts.train, parts.valid, parts.test])
    assert sorted(every) == list(range(len(ids)))
    groups = [{codes[i] for i in part} for part in (parts.train, parts.valid, parts.test)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert len(parts.train)
    assert len(parts.test)
    assert (len(parts.valid) > 0) == (valid > 0)
    for part, fraction in ((parts.test, test), (parts.valid, valid)):
        # Within one superfamily of the target, where there are enough of them to choose from.
        assert abs(len(part) - fraction * len(ids)) <= max(sizes) + 1 or len(sizes) < 6


@given(sizes, st.integers(0, 9))
@settings(max_examples=40)
def test_split_ignores_the_order_of_the_domains(sizes: list[int], seed: int) -> None:
    codes, ids = _members(sizes)
    order = np.random.default_rng(seed).permutation(len(ids))
    one = split_by_superfamily(codes, ids, seed=seed).to_dict(ids)
    ids2 = [ids[i] for i in order]
    two = split_by_superfamily([codes[i] for i in order], ids2, seed=seed).to_dict(ids2)
    assert {name: sorted(part) for name, part in one.items()} == {
        name: sorted(part) for name, part in two.items()
    }


def test_every_part_gets_something() -> None:
    codes, ids = _members([1, 1, 1, 8])
    for seed in range(10):
        parts = split_by_superfamily(codes, ids, valid=0.25, test=0.25, seed=seed)
        assert (len(parts.train), len(parts.valid)) == (8, 1)
        assert len(parts.test) == 2


def test_a_dominating_superfamily_trains() -> None:
    codes, ids = _members([80, 5, 5, 5, 5])
    for seed in range(20):
        parts = split_by_superfamily(codes, ids, valid=0.1, test=0.1, seed=seed)
        assert codes[0] in {codes[i] for i in parts.train}
        assert (len(parts.valid), len(parts.test)) == (10, 10)


def test_seeds_differ_and_unlabelled_domains_stand_alone() -> None:
    codes, ids = _members([3] * 20)
    assert split_by_superfamily(codes, ids, seed=1).to_dict(ids) != split_by_superfamily(
        codes, ids, seed=2
    ).to_dict(ids)
    alone = split_by_superfamily([""] * 10, [f"d{i}" for i in range(10)], valid=0.2, test=0.3, seed=0)
    assert [len(part) for part in (alone.train, alone.valid, alone.test)] == [5, 2, 3]


def test_split_of_the_shipped_corpus_is_near_the_fractions(sample_file: Path) -> None:
    corpus = Corpus.open(sample_file)
    parts = split_by_superfamily(corpus.codes, corpus.ids, valid=0.15, test=0.25, seed=0)
    assert abs(len(parts.test) - 42) <= 1
    assert abs(len(parts.valid) - 25) <= 1
    stored = json.loads(json.dumps(parts.to_dict(corpus.ids)))
    sequences = corpus.sequences(np.arange(len(corpus)))
    aware = split_by_superfamily(corpus.codes, corpus.ids, valid=0.15, test=0.25, seed=0, contents=sequences)
    assert (len(set(sequences)), aware.to_dict(corpus.ids)) == (len(corpus), stored)
    assert [corpus.ids.index(id) for id in stored["train"]] == parts.train.tolist()


def test_impossible_splits() -> None:
    with pytest.raises(ConfigError, match="test: fraction out of range"):
        split_by_superfamily(["a"], ["1"], test=1.5)
    with pytest.raises(ConfigError, match="nothing left for training"):
        split_by_superfamily(["a"], ["1"], test=0.5, valid=0.5)
    with pytest.raises(DataError, match=r"too few superfamilies.*got 2 over 3 domains, expected at least 3"):
        split_by_superfamily(["a", "a", "b"], ["1", "2", "3"])


@given(sizes, st.floats(0, 1), st.integers(0, 99), st.sampled_from(["shuffled", "disjoint"]))
@settings(max_examples=40)
def test_pairs_by_whole_clusters(sizes: list[int], fraction: float, seed: int, pools: str) -> None:
    clusters, ids = _members(sizes)
    pairing = assign_pairs(clusters, fraction, seed, pools, ids=ids)  # type: ignore[arg-type]
    names = [{clusters[i] for i in part} for part in parts_of(pairing)]
    assert abs(len(pairing.paired) - fraction * len(ids)) <= max(sizes)
    assert not names[0] & (names[1] | names[2])
    rest = len(ids) - len(pairing.paired)
    if pools == "shuffled":
        assert sorted(pairing.unpaired[0]) == sorted(pairing.unpaired[1])
        assert len(pairing.unpaired[0]) == rest
    else:
        assert not names[1] & names[2]
        assert len(pairing.unpaired[0]) + len(pairing.unpaired[1]) == rest
        assert abs(len(pairing.unpaired[0]) - len(pairing.unpaired[1])) <= max(sizes) + 1
    again = assign_pairs(clusters, fraction, seed, pools, ids=ids)  # type: ignore[arg-type]
    for a, b in zip(parts_of(pairing), parts_of(again), strict=True):
        np.testing.assert_array_equal(a, b)


@given(sizes, st.integers(0, 9))
@settings(max_examples=40)
def test_all_or_nothing(sizes: list[int], seed: int) -> None:
    clusters, ids = _members(sizes)
    n = len(ids)
    assert [len(part) for part in parts_of(assign_pairs(clusters, 0, seed))] == [0, n, n]
    assert [len(part) for part in parts_of(assign_pairs(clusters, 1, seed))] == [n, 0, 0]
    assert len(assign_pairs(clusters, 1e-6, seed).paired) >= 1


def test_unpaired_rows_do_not_give_their_partners_away() -> None:
    clusters, ids = _members([1] * 400)
    pairing = assign_pairs(clusters, 0.1, 3, ids=ids)
    n = len(pairing.unpaired[0])
    assert n == 360
    # Independent orders: about one row in n meets its own partner by chance.
    assert (pairing.unpaired[0] == pairing.unpaired[1]).sum() < 8
    assert (np.diff(pairing.unpaired[0]) > 0).mean() < 0.6


def test_pairs_within_the_training_part() -> None:
    clusters, ids = _members([2] * 10)
    train = np.arange(4, 20)
    pairing = assign_pairs(clusters, 0.5, 0, "disjoint", ids=ids, index=train)
    parts = parts_of(pairing)
    assert sorted(np.concatenate(parts)) == train.tolist()
    assert [len(part) for part in parts] == [8, 4, 4]


def test_pairing_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"--paired: fraction out of range; got 1.5, expected 0 to 1"):
        assign_pairs(["a"], 1.5, 0)
    with pytest.raises(ConfigError, match="--pools: unknown pools"):
        assign_pairs(["a"], 0.5, 0, "both")  # type: ignore[arg-type]


def test_superfamily_stands_in_for_unknown_clusters() -> None:
    codes, clusters = np.array(["1.1.1.1", "1.1.1.1", ""]), np.array(["1.1.1.1.2", "", ""])
    assert pairing_clusters(codes, clusters).tolist() == ["1.1.1.1.2", "1.1.1.1", ""]


@pytest.mark.parametrize(
    ("id", "code"),
    [
        ("1oaiA00", "1oai"),
        ("1OAI", "1oai"),
        ("1oai_A", "1oai"),
        ("4fae.B", "4fae"),
        ("2pmo-X_extra", "2pmo"),
        ("d1abca_", "1abc"),
        ("d1abc.1", "1abc"),
        ("pdb1abc", "1abc"),
        ("AF-P12345-F1-model_v4", None),
        ("P12345", None),
        ("domain1", None),
        ("", None),
    ],
)
def test_pdb_codes(id: str, code: str | None) -> None:
    assert pdb_code(id) == code


def test_overlap_by_pdb_entry() -> None:
    assert overlap_by_pdb(["1oaiA00", "AF-1"], ["2abc_A", "1oai-C", "AF-1", "1OAI_D"]) == ["1oai-C", "1OAI_D"]


corpora = st.lists(
    st.tuples(
        st.sampled_from(["", "1.1.1.1", "1.1.1.2", "2.1.1.1", "3.1.1.1", "4.1.1.1"]), st.integers(0, 60)
    ),
    min_size=6,
    max_size=40,
)


def _linked(names: list[str], sequences: list[str]) -> list[set[int]]:
    """Domains that hang together by equal names or sequences, found by looking at every pair."""
    groups = [{i} for i in range(len(names))]
    moved = True
    while moved:
        moved = False
        for a in list(groups):
            for b in list(groups):
                if a is not b and any(
                    (names[i] and names[i] == names[j]) or sequences[i] == sequences[j] for i in a for j in b
                ):
                    a |= b
                    groups.remove(b)
                    moved = True
                    break
            if moved:
                break
    return groups


@given(corpora)
@settings(max_examples=60, deadline=None)
def test_clusters_that_share_a_sequence_are_joined_and_no_others(domains: list[tuple[str, int]]) -> None:
    names, sequences = [name for name, _ in domains], [f"S{k}" for _, k in domains]
    ids = [f"d{i}" for i in range(len(names))]
    joined = join_equal(names, ids, sequences)
    found: dict[str, set[int]] = {}
    for i, name in enumerate(joined):
        found.setdefault(name or ids[i], set()).add(i)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, _linked(names, sequences)))
    order = list(range(len(names)))[::-1]
    assert [joined[i] for i in order] == join_equal(*([x[i] for i in order] for x in (names, ids, sequences)))


@given(corpora, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_copies_stand_in_one_part(domains: list[tuple[str, int]], seed: int) -> None:
    # Copies of one domain under several ids, with any code or none.
    codes = [code for code, _ in domains] + [f"5.1.1.{k}" for k in range(4)]
    sequences = [f"S{k}" for _, k in domains] + [f"T{k}" for k in range(4)]
    ids = [f"d{i}" for i in range(len(codes))]
    parts = split_by_superfamily(codes, ids, seed=seed, contents=sequences)
    every = (parts.train, parts.valid, parts.test)
    assert sorted(np.concatenate(every)) == list(range(len(ids)))
    for values in (sequences, [code or id for code, id in zip(codes, ids, strict=True)]):
        sets = [{values[i] for i in part} for part in every]
        assert sum(map(len, sets)) == len(set.union(*sets))


@given(sizes, st.integers(0, 9))
@settings(max_examples=30)
def test_without_copies_the_split_is_as_without_sequences(sizes: list[int], seed: int) -> None:
    codes, ids = _members(sizes)
    codes = ["" if i % 5 == 0 else code for i, code in enumerate(codes)]
    sequences = [f"S{i}" for i in range(len(ids))]
    assert join_equal(codes, ids, sequences) == codes
    one = split_by_superfamily(codes, ids, seed=seed, contents=sequences)
    assert one.to_dict(ids) == split_by_superfamily(codes, ids, seed=seed).to_dict(ids)
