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
from protclip.relations.pairs import AlignmentData, HeldOut, Side
from protclip.relations.splits import Pairing, assign_pairs
from protclip.scoring.galleries import Gallery
from protclip.sources.folder_items import PARTS, Matches, divide, groups_of, read_matches
from protclip.typing import Indices, Say


class PairsSource:
    """Folders of matched items, as :class:`protclip.relations.pairs.Source`.

    Parameters
    ----------
    options : PairsOptions
    """

    def __init__(self, options: PairsOptions) -> None:
        self.options = options

    def setup(self, split: DataConfig, *, seed: int = 0, say: Say = lambda text: None) -> AlignmentData:
        """Both sides, made from their options, and the items split; copies stay on one side of the split.

        Left items keep their pairing as a whole or not at all. Items without partner join the unpaired ones
        unless they are copies of held-out ones.
        """
        options = self.options
        datasets = self._datasets((options.left, options.right), options.pairs, options.limit)
        modalities = self._modalities(datasets[0], seed, say)
        names = [modality.name for modality in modalities]
        matches = read_matches(datasets, modalities)
        notices = list(matches.notices)
        groups, copies = groups_of(matches, modalities)
        if copies:
            notices.append(f"{copies} {names[0]} items are copies of others; copies stay in one part")
        parts, found = divide(matches, groups, split)
        notices += found
        partners, found = self._partners(matches, split.split_seed, names)
        notices += found
        pairing = assign_pairs(
            [f"group {group}" for group in groups],
            split.paired,
            seed,
            split.pools,
            ids=matches.sides[0].ids,
            index=parts["train"],
        )
        pairs = [(int(i), j) for i in pairing.paired for j in partners[int(i)]]
        pools = _pools(pairing, partners, _without_partner(matches, parts, groups, modalities), seed)
        seen = [
            {*map(int, parts["train"])},
            {j for i in parts["train"] for j in partners[int(i)]},
        ]
        sides = []
        for modality, collected, pool, trained in zip(modalities, matches.sides, pools, seen, strict=True):
            modality.prepare([collected.items[i] for i in sorted(trained | set(map(int, pool)))])
            remarks = modality.remarks(collected.items)
            notices += [f"{count} {modality.name} items: {text}" for text, count in remarks.items()]
            sides.append(Side(modality, collected.items, pool))
        galleries = [_gallery(matches, parts[part], partners) for part in ("valid", "test")]
        return AlignmentData(
            (sides[0], sides[1]),
            np.array(pairs, np.int64).reshape(-1, 2),
            galleries[0],
            galleries[1],
            self._facts(datasets, matches, parts, split, sides, len(pairs)),
            notices,
            {
                **{part: matches.sides[0].name_of(parts[part]) for part in PARTS},
                "paired": matches.sides[0].name_of(pairing.paired),
                **{
                    f"unpaired_{side.name}": collected.name_of(side.pool)
                    for side, collected in zip(sides, matches.sides, strict=True)
                },
                **({"copies": copies} if copies else {}),
            },
            {
                "left_option": {**options.left_option, **modalities[0].resolved()},
                "right_option": {**options.right_option, **modalities[1].resolved()},
            },
        )

    def _modalities(self, dataset: Matched, seed: int, say: Say) -> list[Modality[Any]]:
        """The adapters of both sides, made from their options."""
        options, made = self.options, []
        for flag, kind, given, source in (
            ("--left", options.left, options.left_option, dataset.left),
            ("--right", options.right, options.right_option, dataset.right),
        ):
            modality = modality_class(kind, flag).from_options(given, source=source, seed=seed)
            origin: Any = getattr(modality, "provenance", None)
            if message := getattr(origin, "message", ""):
                say(f"WARNING: {message}" if origin.fallback else message)
            made.append(modality)
        return made

    def _facts(
        self,
        datasets: Sequence[Matched],
        matches: Matches,
        parts: Mapping[str, Indices],
        split: DataConfig,
        sides: Sequence[Side],
        pairs: int,
    ) -> dict[str, Any]:
        """Counts and provenance for config, split file and model card."""
        return {
            "pairs_from": self.options.pairs,
            "datasets": ", ".join(matched.name for matched in datasets),
            "data_fingerprint": matches.fingerprint,
            "captions": self.options.captions,
            "limit": self.options.limit,
            **{f"{side.name}_items": len(side.items) for side in sides},
            **{f"{part}_items": len(parts[part]) for part in PARTS},
            "paired_fraction": split.paired,
            "pairs": pairs,
            **{f"unpaired_{side.name}": len(side.pool) for side in sides},
            "pools": split.pools,
            "split": "the datasets' own" if matches.own_split else "at random, copies together",
        }

    def held_out(
        self, sides: Sequence[Modality[Any]], facts: Mapping[str, Any], *, split: str, say: Say
    ) -> HeldOut:
        """The test part, with ``split="auto"``: the run's own on its own data, the datasets' own on others.

        Data without any split that are not those of the training are scored whole.
        """
        trained_on = str(facts.get("pairs_from", ""))
        pairs = self.options.pairs or trained_on
        # On the folder of the training, what it took of it is what its own test part belongs to.
        limit = self.options.limit or (int(facts.get("limit", 0)) if pairs == trained_on else 0)
        datasets = self._datasets((sides[0].name, sides[1].name), pairs, limit)
        matches = read_matches(datasets, sides)
        for notice in matches.notices:
            say(notice)
        own = facts.get("data_fingerprint") == matches.fingerprint
        choice = str(facts.get("captions", "")) if own and self.options.captions == "first" else ""
        partners, _ = self._partners(matches, int(facts.get("split_seed", 0)), ("", ""), choice)
        rows = np.array(sorted(partners), np.int64)
        if split == "auto" and (own or matches.own_split):
            groups, _ = groups_of(matches, sides)
            as_trained = DataConfig(
                valid_fraction=facts.get("valid_fraction", 0.0) if own else 0.0,
                test_fraction=facts.get("test_fraction", 0.0) if own else 0.0,
                split_seed=facts.get("split_seed", 0),
            )
            rows = divide(matches, groups, as_trained)[0]["test"]
            whose = "the run's own" if own else "the datasets' own"
            say(f"scoring the {len(rows)} items of {whose} test part (--split all takes everything)")
        elif split == "auto":
            say(f"these are not the items of the training: scoring all {len(rows)}")
        first, second = (collected.items for collected in matches.sides)
        return HeldOut(_gallery(matches, rows, partners), (first, second))

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
        self, matches: Matches, seed: int, names: Sequence[str], choice: str = ""
    ) -> tuple[dict[int, list[int]], list[str]]:
        """The partners of each left item that are used, and a sentence on it."""
        partners: dict[int, list[int]] = {}
        for i, j in matches.pairs:
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
        return partners, [f"of several {names[1]} items of one {names[0]} item {used}"] if several else []


def _pools(
    pairing: Pairing,
    partners: Mapping[int, Sequence[int]],
    lone: Sequence[Sequence[int]],
    seed: int,
) -> tuple[Indices, Indices]:
    """Items without known partner of both sides; ``lone`` ones have none at all."""
    others = [j for i in pairing.unpaired[1] for j in partners[int(i)]]
    # Their order must not tell whose they are.
    others = [others[k] for k in np.random.default_rng([seed, 9]).permutation(len(others))]
    return (
        np.concatenate([pairing.unpaired[0], lone[0]]).astype(np.int64),
        np.array([*dict.fromkeys(others), *lone[1]], np.int64),
    )


def _gallery(matches: Matches, rows: Indices, partners: Mapping[int, Sequence[int]]) -> Gallery:
    """One partner of each left item; a partner that several share counts once."""
    chosen: dict[int, int] = {}
    for i in rows:
        chosen.setdefault(partners[int(i)][0], int(i))
    matched = np.array([(i, j) for j, i in chosen.items()], np.int64).reshape(-1, 2)
    return Gallery(matches.sides[0].name_of(matched[:, 0]), matched)


def _without_partner(
    matches: Matches, parts: Mapping[str, Indices], groups: Indices, modalities: Sequence[Modality[Any]]
) -> tuple[list[int], list[int]]:
    """Items of each side that are in no pair, belong to no held-out part, and are no copies of such items."""
    held = {int(i) for part in ("valid", "test") for i in parts[part]}
    held |= {i for i, part in matches.own_split.items() if part != "train"}
    held_groups = {int(groups[i]) for i in held}
    hidden = {matches.sides[1].digests[j] for i, j in matches.pairs if i in held}
    free: list[list[int]] = []
    for side, matched in zip(matches.sides, zip(*matches.pairs, strict=True), strict=True):
        known = set(matched)
        free.append([i for i, id in enumerate(side.ids) if i not in known and id not in matches.held_ids])
    first = [i for i in free[0] if int(groups[i]) not in held_groups]
    copies_leak = modalities[1].equal_items_leak
    second = [j for j in free[1] if not (copies_leak and matches.sides[1].digests[j] in hidden)]
    return first, second
