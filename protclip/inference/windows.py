"""A stream of items in windows: what can be used, what cannot, and ids that come twice."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.errors import ProtclipError

REPEATED = "the id stands twice in the input"
"""How the reason begins for which a repeated id is passed over."""


class Readable(NamedTuple):
    """One window of a stream, sorted into what can be used and what cannot.

    Attributes
    ----------
    ids, items : list
        Readable items in input order.
    failed : dict
        Id -> reason, for items that could not be read and for repeated ids, each under a name of its own.
    seen : int
        Items of the window, passed-over ones included.
    repeated : int
        Those of ``failed`` that are there for their id alone.
    """

    ids: list[str]
    items: list[Any]
    failed: dict[str, str]
    seen: int
    repeated: int = 0


class SeenIds:
    """The ids of a stream so far with their places, at 24 bytes each whatever their length.

    A dictionary of text takes a hundred. Digests of 128 bits stand for the ids; that two of them are equal by
    chance is out of the question.

    Examples
    --------
    >>> seen = SeenIds()
    >>> seen.add("1oaiA00", 7)
    >>> "1oaiA00" in seen, "1ubiA00" in seen, len(seen), seen.place("1oaiA00")
    (True, False, 1, 7)
    """

    RECENT = 1 << 14

    def __init__(self) -> None:
        self._recent: dict[bytes, int] = {}
        # Sorted, each less than half as long as the one before: few to look into, and seldom merged.
        self._sorted: list[tuple[NDArray[np.bytes_], NDArray[np.int64]]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(len(digests) for digests, _ in self._sorted)

    def __contains__(self, id: str) -> bool:
        return self.place(id) is not None

    def add(self, id: str, place: int = 0) -> None:
        """Remember an id, and where it stands if it is new."""
        digest = self._digest(id)
        if self._find(digest) is not None:
            return
        self._recent[digest] = place
        if len(self._recent) == self.RECENT:
            digests, places = (
                np.array(list(self._recent), "S16"),
                np.array(list(self._recent.values()), np.int64),
            )
            self._recent.clear()
            while self._sorted and len(self._sorted[-1][0]) < 2 * len(digests):
                before = self._sorted.pop()
                digests, places = (
                    np.concatenate(both) for both in zip(before, (digests, places), strict=True)
                )
            order = np.argsort(digests, kind="stable")
            self._sorted.append((digests[order], places[order]))

    def place(self, id: str) -> int | None:
        """Where an id stood first, None if it was not there."""
        return self._find(self._digest(id))

    @staticmethod
    def _digest(id: str) -> bytes:
        # The array forgets zeros at the end of an entry, and so does this.
        return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest().rstrip(b"\0")

    def _find(self, digest: bytes) -> int | None:
        if digest in self._recent:
            return self._recent[digest]
        for digests, places in self._sorted:
            row = int(np.searchsorted(digests, digest))
            if row < len(digests) and digests[row] == digest:
                return int(places[row])
        return None


def readable_windows(
    source: Iterable[tuple[str, Any]], size: int, *, skip: Callable[[str], bool] = lambda id: False
) -> Iterator[Readable]:
    """Windows of ``size`` entries of a stream of (id, item or its error); ids must be unique.

    Parameters
    ----------
    skip : callable
        Ids for which it is True are passed over (done before).

    Examples
    --------
    >>> next(readable_windows([("a", 1), ("b", ProtclipError("bad")), ("a", 2)], 8)).failed
    {'b': 'bad', 'a (again)': 'the id stands twice in the input, as items 1 and 3; only the first counts'}
    """
    seen = SeenIds()
    again: Counter[str] = Counter()
    stream = iter(source)
    number = 0
    while chunk := list(itertools.islice(stream, size)):
        ids: list[str] = []
        items: list[Any] = []
        failed: dict[str, str] = {}
        repeated = 0
        for name, item in chunk:
            number += 1
            if isinstance(item, Exception) and not isinstance(item, ProtclipError):
                raise item
            # Names of files need not be text; what is not can be written nowhere.
            id = str(name).encode("utf-8", "backslashreplace").decode()
            first = seen.place(id)
            if first is not None:  # first, so that a bad record does not report its good namesake as failed
                again[id] += 1
                key = f"{id} (again)" if again[id] == 1 else f"{id} (again, {again[id]})"
                failed[key] = f"{REPEATED}, as items {first} and {number}; only the first counts"
                repeated += 1
            elif isinstance(item, ProtclipError):
                failed[id] = str(item)
            elif not skip(id):
                ids.append(id)
                items.append(item)
            seen.add(id, number)
        yield Readable(ids, items, failed, len(chunk), repeated)
