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

REPEATED = "the id stands twice in the input; only the first counts"


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
    """The ids of a stream so far, at sixteen bytes each whatever their length: a set of text takes a hundred.

    Digests of 128 bits stand for the ids; that two of them are equal by chance is out of the question.

    Examples
    --------
    >>> seen = SeenIds()
    >>> seen.add("1oaiA00")
    >>> "1oaiA00" in seen, "1ubiA00" in seen, len(seen)
    (True, False, 1)
    """

    RECENT = 1 << 14

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        # Sorted, each less than half as long as the one before: few to look into, and seldom merged.
        self._sorted: list[NDArray[np.bytes_]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))

    def __contains__(self, id: str) -> bool:
        return self._has(self._digest(id))

    def add(self, id: str) -> None:
        """Remember an id."""
        digest = self._digest(id)
        if self._has(digest):
            return
        self._recent.add(digest)
        if len(self._recent) == self.RECENT:
            run = np.sort(np.array(list(self._recent), "S16"))
            self._recent.clear()
            while self._sorted and len(self._sorted[-1]) < 2 * len(run):
                run = np.sort(np.concatenate([self._sorted.pop(), run]), kind="stable")
            self._sorted.append(run)

    @staticmethod
    def _digest(id: str) -> bytes:
        # The array forgets zeros at the end of an entry, and so does this.
        return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest().rstrip(b"\0")

    def _has(self, digest: bytes) -> bool:
        if digest in self._recent:
            return True
        for run in self._sorted:
            place = int(np.searchsorted(run, digest))
            if place < len(run) and run[place] == digest:
                return True
        return False


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
    {'b': 'bad', 'a (again)': 'the id stands twice in the input; only the first counts'}
    """
    seen = SeenIds()
    again: Counter[str] = Counter()
    stream = iter(source)
    while chunk := list(itertools.islice(stream, size)):
        ids: list[str] = []
        items: list[Any] = []
        failed: dict[str, str] = {}
        repeated = 0
        for name, item in chunk:
            if isinstance(item, Exception) and not isinstance(item, ProtclipError):
                raise item
            # Names of files need not be text; what is not can be written nowhere.
            id = str(name).encode("utf-8", "backslashreplace").decode()
            if id in seen:  # first, so that a bad record does not report its good namesake as failed
                again[id] += 1
                failed[f"{id} (again)" if again[id] == 1 else f"{id} (again, {again[id]})"] = REPEATED
                repeated += 1
            elif isinstance(item, ProtclipError):
                failed[id] = str(item)
            elif not skip(id):
                ids.append(id)
                items.append(item)
            seen.add(id)
        yield Readable(ids, items, failed, len(chunk), repeated)
