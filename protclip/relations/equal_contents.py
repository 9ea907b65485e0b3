"""Domains of equal content (their sequence): copies for every split, whatever their ids and codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EQUAL_KEY = "domains_with_equal_sequences"
"""Fact, only where there are such domains: how many have a sequence that another one has as well."""


def join_equal(
    names: Sequence[str] | NDArray[np.str_], ids: Sequence[str], contents: Sequence[str]
) -> list[str]:
    """Names of clusters such that domains of one content have one name.

    Clusters that share one, directly or by way of others, all get the smallest of their names;
    the other names stay as they are. An empty name is a cluster of its own.

    Examples
    --------
    >>> join_equal(["b", "a", "c", ""], ["1", "2", "3", "4"], ["MK", "MK", "AY", "GG"])
    ['a', 'a', 'c', '']
    """
    found = [str(name) for name in names]
    own = own_names(found, ids)
    leader = {name: name for name in own}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    first: dict[str, str] = {}
    for name, content in zip(own, contents, strict=True):
        a, b = find(name), find(first.setdefault(content, name))
        leader[max(a, b)] = min(a, b)
    size = Counter(map(find, leader))
    return [found[i] if size[find(name)] == 1 else find(name) for i, name in enumerate(own)]


def count_equal(contents: Sequence[str]) -> int:
    """Number of domains whose content another one has.

    Examples
    --------
    >>> count_equal(["MK", "AY", "MK", "MK"])
    3
    """
    return sum(count for count in Counter(contents).values() if count > 1)


def own_names(names: Sequence[str] | NDArray[np.str_], ids: Sequence[str]) -> list[str]:
    """The names, and one of its own for each domain without; no cluster is named so.

    Examples
    --------
    >>> own_names(["1.10.8.10", ""], ["1oaiA00", "2abcA00"])
    ['1.10.8.10', '\\x002abcA00']
    """
    return [str(name) or f"\0{id}" for name, id in zip(names, ids, strict=True)]
