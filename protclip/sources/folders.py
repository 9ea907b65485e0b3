"""The general source: matched items of any two adapters, from folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from protclip.config.folder_options import PairsOptions
from protclip.config.pretraining import DataConfig
from protclip.data.paired.matched import Matched, find_matched
from protclip.errors import DataError
from protclip.modalities.base import Modality
from protclip.modalities.registry import modality_class
from protclip.relations.pairs import AlignmentData, HeldOut, Setup
from protclip.relations.splits import assign_pairs
from protclip.scoring.galleries import Gallery
from protclip.sources.folder_items import PARTS, Paired, divide, groups_of, read_paired
from protclip.typing import Indices, Say


class PairsSource:
    """Folders of matched items, as :class:`protclip.relations.pairs.Source`.

    Parameters
    ----------
    options : PairsOptions
    """

    def __init__(self, options: PairsOptions) -> None:
        self.options = options

    def setup(
        self, division: DataConfig, *, all_paired: bool = False, seed: int = 0, say: Say = lambda text: None
    ) -> Setup:
        """Both sides, made from their options, and the items divided; copies stay on one side of the split.

        Left items keep their pairing as a whole or not at all. Items without partner join the unpaired ones
        unless they are copies of held-out ones.
        """
        options = self.options
        datasets = self._datasets((options.left, options.right), options.pairs, options.limit)
        sides = tuple(
            modality_class(kind, flag).from_options(given, source=source, seed=seed)
            for flag, kind, given, source in (
                ("--left", options.left, options.left_option, datasets[0].left),
                ("--right", options.right, options.right_option, datasets[0].right),
            )
        )
        left, right = sides
        for side in sides:
            if message := getattr(getattr(side, "provenance", None), "message", ""):
                fallback = side.provenance.fallback  # type: ignore[attr-defined]
                say(f"WARNING: {message}" if fallback else message)
        paired = read_paired(datasets, (left, right))
        notices = list(paired.notices)
        groups, copies = groups_of(paired, (left, right))
        if copies:
            notices.append(f"{copies} {left.name} items are copies of others; copies stay in one part")
        parts, found = divide(paired, groups, division)
        notices += found
        partners, found = self._partners(paired, division.split_seed, right.name, left.name)
        notices += found

        fraction = 1.0 if all_paired else division.paired
        names = [f"group {group}" for group in groups]
        train = parts["train"]
        pairing = assign_pairs(names, fraction, seed, division.pools, ids=paired.left.ids, index=train)
        pairs = [(int(i), j) for i in pairing.paired for j in partners[int(i)]]
        lone = _without_partner(paired, parts, groups, (left, right))
        pool_left = np.concatenate([pairing.unpaired_left, lone[0]]).astype(np.int64)
        others = [j for i in pairing.unpaired_right for j in partners[int(i)]]
        # Their order must not tell whose they are.
        others = [others[k] for k in np.random.default_rng([seed, 9]).permutation(len(others))]
        pool_right = np.array([*dict.fromkeys(others), *lone[1]], np.int64)

        left.prepare([paired.left.items[i] for i in sorted({*map(int, train), *map(int, pool_left)})])
        used = {j for i in train for j in partners[int(i)]} | set(map(int, pool_right))
        right.prepare([paired.right.items[j] for j in sorted(used)])
        for side, items in ((left, paired.left.items), (right, paired.right.items)):
            notices += [f"{count} {side.name} items: {text}" for text, count in side.remarks(items).items()]
        facts = {
            "pairs_from": options.pairs,
            "datasets": ", ".join(matched.name for matched in datasets),
            "data_fingerprint": paired.fingerprint,
            "captions": options.captions,
            "limit": options.limit,
            f"{left.name}_items": len(paired.left.ids),
            f"{right.name}_items": len(paired.right.ids),
            **{f"{part}_items": len(parts[part]) for part in PARTS},
            "paired_fraction": fraction,
            "pairs": len(pairs),
            f"unpaired_{left.name}": len(pool_left),
            f"unpaired_{right.name}": len(pool_right),
            "pools": division.pools,
            "split": "the datasets' own" if paired.own_split else "at random, copies together",
        }
        galleries = [_gallery(paired, parts[part], partners) for part in ("valid", "test")]
        return Setup(
            left,
            right,
            AlignmentData(
                paired.left.items,
                paired.right.items,
                np.array(pairs, np.int64).reshape(-1, 2),
                pool_left,
                pool_right,
                galleries[0],
                galleries[1],
                facts,
                notices,
                {
                    **{part: [paired.left.ids[i] for i in parts[part]] for part in PARTS},
                    "paired": [paired.left.ids[i] for i in pairing.paired],
                    f"unpaired_{left.name}": [paired.left.ids[i] for i in pool_left],
                    f"unpaired_{right.name}": [paired.right.ids[j] for j in pool_right],
                },
            ),
            {
                "left_option": {**options.left_option, **left.resolved()},
                "right_option": {**options.right_option, **right.resolved()},
            },
        )

    def held_out(
        self, sides: tuple[Modality[Any], Modality[Any]], facts: Mapping[str, Any], *, split: str, say: Say
    ) -> HeldOut:
        """The test part, with ``split="auto"``: the run's own on its own data, the datasets' own on others.

        Data without any split that are not those of the training are scored whole.
        """
        trained_on = str(facts.get("pairs_from", ""))
        pairs = self.options.pairs or trained_on
        # On the folder of the training, what it took of it is what its own test part belongs to.
        limit = self.options.limit or (int(facts.get("limit", 0)) if pairs == trained_on else 0)
        datasets = self._datasets((sides[0].name, sides[1].name), pairs, limit)
        paired = read_paired(datasets, sides)
        for notice in paired.notices:
            say(notice)
        own = facts.get("data_fingerprint") == paired.fingerprint
        choice = str(facts.get("captions", "")) if own and self.options.captions == "first" else ""
        partners, _ = self._partners(paired, int(facts.get("split_seed", 0)), "", "", choice)
        rows = np.array(sorted(partners), np.int64)
        if split == "auto" and (own or paired.own_split):
            groups, _ = groups_of(paired, sides)
            division = DataConfig(
                valid_fraction=facts.get("valid_fraction", 0.0) if own else 0.0,
                test_fraction=facts.get("test_fraction", 0.0) if own else 0.0,
                split_seed=facts.get("split_seed", 0),
            )
            rows = divide(paired, groups, division)[0]["test"]
            whose = "the run's own" if own else "the datasets' own"
            say(f"scoring the {len(rows)} items of {whose} test part (--split all takes everything)")
        elif split == "auto":
            say(f"these are not the items of the training: scoring all {len(rows)}")
        return HeldOut(_gallery(paired, rows, partners), paired.left.items, paired.right.items)

    def _datasets(self, kinds: tuple[str, str], pairs: str, limit: int) -> list[Matched]:
        """Datasets, turned so that their sides are those of the adapters."""
        found: list[Matched] = []
        for name in pairs.split(","):
            if name.strip():
                found += find_matched(name.strip(), limit=limit)
        if not found:
            raise DataError("no folder of matched items is given", where="--pairs")
        return [
            matched.turned() if matched.kinds[0] and kinds == matched.kinds[::-1] else matched
            for matched in found
        ]

    def _partners(
        self, paired: Paired, seed: int, right: str, left: str, choice: str = ""
    ) -> tuple[dict[int, list[int]], list[str]]:
        """The partners of each left item that are used, and a sentence on it."""
        partners: dict[int, list[int]] = {}
        for i, j in paired.pairs:
            partners.setdefault(i, []).append(j)
        several = sum(len(found) > 1 for found in partners.values())
        choice = choice or self.options.captions
        if not several or choice == "all":
            used = f"all are used, and the first for scoring ({several} have several)"
        elif choice == "first":
            partners = {i: found[:1] for i, found in partners.items()}
            used = f"the first is used ({several} have several)"
        else:
            rng = np.random.default_rng([seed, 8])
            partners = {i: [found[int(rng.integers(len(found)))]] for i, found in sorted(partners.items())}
            used = f"one is drawn once, by the seed of the split ({several} have several)"
        return partners, [f"of several {right} items of one {left} item {used}"] if several else []


def _gallery(paired: Paired, rows: Indices, partners: Mapping[int, Sequence[int]]) -> Gallery:
    """One partner of each left item; a partner that several share counts once."""
    chosen: dict[int, int] = {}
    for i in rows:
        chosen.setdefault(partners[int(i)][0], int(i))
    left = np.array(list(chosen.values()), np.int64)
    return Gallery([paired.left.ids[i] for i in left], left, np.array(list(chosen), np.int64))


def _without_partner(
    paired: Paired, parts: Mapping[str, Indices], groups: Indices, sides: tuple[Modality[Any], Modality[Any]]
) -> tuple[list[int], list[int]]:
    """Items of each side that are in no pair, belong to no held-out part, and are no copies of such items."""
    held = {int(i) for part in ("valid", "test") for i in parts[part]}
    held |= {i for i, part in paired.own_split.items() if part != "train"}
    held_groups = {int(groups[i]) for i in held}
    matched_left, matched_right = {i for i, _ in paired.pairs}, {j for _, j in paired.pairs}
    left = [
        i
        for i, id in enumerate(paired.left.ids)
        if i not in matched_left and int(groups[i]) not in held_groups and id not in paired.held_ids
    ]
    hidden = {paired.right.digests[j] for i, j in paired.pairs if i in held}
    right = [
        j
        for j, id in enumerate(paired.right.ids)
        if j not in matched_right
        and id not in paired.held_ids
        and not (sides[1].equal_items_leak and paired.right.digests[j] in hidden)
    ]
    return left, right
