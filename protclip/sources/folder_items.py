"""Matched items of two adapters, read and checked: what is copied, what has no partner, who is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from protclip.config.pretraining import DataConfig
from protclip.data.paired.matched import Matched
from protclip.errors import DataError, ProtclipError
from protclip.modalities.base import Modality
from protclip.relations.splits import split_by_superfamily
from protclip.typing import Indices

PARTS = ("train", "valid", "test")


@dataclass
class Collected:
    """Items of one side in the order of reading.

    Attributes
    ----------
    ids, items, digests : lists of equal length
    failed : Counter
        Reasons for which items could not be read.
    examples : dict
        Reason -> the first item concerned.
    """

    ids: list[str] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def read(self, side: Modality[Any], source: Any, prefix: str) -> None:
        """Add the items of ``source``; the ids get ``prefix`` in front."""
        known = set(self.ids)
        stream: Iterable[tuple[str, Any]] = side.read(source)
        for name, item in stream:
            id = prefix + name
            if isinstance(item, Exception) and not isinstance(item, ProtclipError):
                raise item
            if isinstance(item, ProtclipError):
                self._fail(item.message, id)
            elif id in known:
                self._fail("the id stands twice; only the first counts", id)
            else:
                known.add(id)
                self.ids.append(id)
                self.items.append(item)
                self.digests.append(side.digest(item))

    def name_of(self, index: Indices) -> list[str]:
        """Ids of some items."""
        return [self.ids[i] for i in index]

    def _fail(self, reason: str, id: str) -> None:
        self.failed[reason] += 1
        self.examples.setdefault(reason, id)

    def notices(self, name: str) -> list[str]:
        """A sentence for each reason to leave items out."""
        return [
            f"{count} {name} items left out: {reason} (the first is {self.examples[reason]})"
            for reason, count in self.failed.items()
        ]


@dataclass
class Matches:
    """Both sides with their matches as numbers.

    Attributes
    ----------
    sides : two of Collected
    pairs : list of (int, int)
        Numbers of an item of the first side and one of the second, in the order of the datasets.
    own_split : dict
        Number of an item of the first side -> part, where the datasets are divided.
    held_ids : set of str
        Ids of either side that belong to a held-out part but have no readable partner.
    notices : list of str
    """

    sides: tuple[Collected, Collected]
    pairs: list[tuple[int, int]]
    own_split: dict[int, str]
    held_ids: set[str]
    notices: list[str]

    @property
    def fingerprint(self) -> str:
        """Hash of all items and matches."""
        total = hashlib.sha256()
        for side in self.sides:
            for id, digest in zip(side.ids, side.digests, strict=True):
                total.update(id.encode() + b"\0" + digest)
        total.update(np.array(self.pairs, np.int64).tobytes())
        return total.hexdigest()[:32]


def read_matches(datasets: Sequence[Matched], modalities: Sequence[Modality[Any]]) -> Matches:
    """Read both sides of all datasets.

    Raises
    ------
    DataError
        If nothing can be read, or no listed pair names two items.
    """
    sides = Collected(), Collected()
    listed: list[tuple[str, str]] = []
    parts: dict[str, str] = {}
    held: set[str] = set()
    notices: list[str] = []
    for matched, prefix in zip(datasets, _prefixes(datasets), strict=True):
        notices += [f"{matched.name}: {notice}" for notice in matched.notices]
        first = len(sides[0].ids)
        for side, modality, source in zip(sides, modalities, (matched.left, matched.right), strict=True):
            side.read(modality, source, prefix)
        if matched.pairs is None:
            listed += [(id, id) for id in sides[0].ids[first:]]
        else:
            listed += [(prefix + a, prefix + b) for a, b in matched.pairs]
        parts |= {prefix + id: part for id, part in matched.splits.items()}
    for modality, side in zip(modalities, sides, strict=True):
        notices += side.notices(modality.name)
        if not side.ids:
            raise DataError("nothing readable", where=f"{modality.name} side", got="; ".join(side.failed))
    rows = [{id: i for i, id in enumerate(side.ids)} for side in sides]
    pairs = []
    for a, b in dict.fromkeys(listed):
        if a in rows[0] and b in rows[1]:
            pairs.append((rows[0][a], rows[1][b]))
        elif parts.get(a, "train") != "train":
            held |= {a, b}
    if not pairs:
        example = listed[0] if listed else ("none", "none")
        raise DataError(
            "no listed pair names two readable items",
            where=", ".join(matched.name for matched in datasets),
            got=f"pairs such as {example[0]!r} and {example[1]!r}",
            expected="ids such as " + " and ".join(repr(side.ids[0]) for side in sides),
        )
    named = {a for a, _ in listed}
    lost = sum(id in named for id in sides[0].ids) - len({i for i, _ in pairs})
    if lost and any(matched.pairs is not None for matched in datasets):
        notices.append(f"{lost} {modalities[0].name} items have no readable partner and are unpaired")
    own = {rows[0][id]: part for id, part in parts.items() if id in rows[0]}
    return Matches(sides, pairs, own, held, notices)


def groups_of(matches: Matches, modalities: Sequence[Modality[Any]]) -> tuple[Indices, int]:
    """Group number of each item of the first side: equal for items that share a partner or are copies.

    Returns
    -------
    int64 array [number of items], int
        Groups, and the number of items that are copies of an earlier one.
    """
    first_side, second_side = matches.sides
    leader = list(range(len(first_side.ids)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    def join(i: int, j: int) -> None:
        a, b = find(i), find(j)
        leader[max(a, b)] = min(a, b)

    copies = 0
    first_of: dict[Any, int] = {}
    if modalities[0].equal_items_leak:
        for i, digest in enumerate(first_side.digests):
            first = first_of.setdefault(digest, i)
            copies += first != i
            join(first, i)
    partner: dict[Any, int] = {}
    for i, j in matches.pairs:
        key = second_side.digests[j] if modalities[1].equal_items_leak else j
        join(partner.setdefault(key, i), i)
    return np.array([find(i) for i in range(len(leader))], np.int64), copies


def divide(matches: Matches, groups: Indices, split: DataConfig) -> tuple[dict[str, Indices], list[str]]:
    """Items of the first side with partners in the parts train, valid and test; a group is never divided.

    The datasets' own split counts where there is one; parts that it does not have are drawn from its
    training part, like all parts of a dataset without split, by ``split``.

    Returns
    -------
    dict of int64 arrays, list of str
        Parts, and sentences for the user.
    """
    with_partner = np.array(sorted({i for i, _ in matches.pairs}), np.int64)
    notices: list[str] = []
    part_of = {int(i): matches.own_split.get(int(i), "train") for i in with_partner}
    highest: dict[int, int] = {}
    for i in with_partner:
        rank = PARTS.index(part_of[int(i)])
        highest[int(groups[i])] = max(highest.get(int(groups[i]), 0), rank)
    dropped = {i for i, part in part_of.items() if PARTS.index(part) < highest[int(groups[i])]}
    if dropped:
        notices.append(
            f"{len(dropped)} items of an earlier part are copies of held-out ones and are left out of it"
        )
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for i, part in part_of.items():
        if i not in dropped:
            parts[part].append(i)
    wanted = {"valid": split.valid_fraction, "test": split.test_fraction}
    if missing := {part: share for part, share in wanted.items() if not parts[part] and share > 0}:
        rows = parts["train"]
        drawn = split_by_superfamily(
            [f"group {groups[i]}" for i in rows],
            [matches.sides[0].ids[i] for i in rows],
            valid=missing.get("valid", 0.0),
            test=missing.get("test", 0.0),
            seed=split.split_seed,
        )
        parts["train"] = [rows[i] for i in drawn.train]
        for part in missing:
            parts[part] = [rows[i] for i in getattr(drawn, part)]
        if matches.own_split:
            notices.append(f"the split has no {' and no '.join(missing)} part: drawn from its training part")
    return {part: np.array(sorted(rows), np.int64) for part, rows in parts.items()}, notices


def _prefixes(datasets: Sequence[Matched]) -> list[str]:
    """Nothing for one dataset, its name for each of several, numbered where two share one."""
    if len(datasets) == 1:
        return [""]
    names = [matched.name for matched in datasets]
    return [f"{name}/" if names.count(name) == 1 else f"{name}-{i}/" for i, name in enumerate(names, 1)]
