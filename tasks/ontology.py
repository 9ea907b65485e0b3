"""Consistency of predictions with their hierarchies: the GO graph and the four levels of EC numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from protclip.errors import ConfigError, DataError
from protclip.typing import Floats

GO_BASIC = "http://purl.obolibrary.org/obo/go/go-basic.obo"


class Hierarchy:
    """Which classes are ancestors of which.

    Parameters
    ----------
    classes : sequence of str
    ancestors : mapping of str to set of str
        Ancestors of each class, of any distance; those that are no classes are left out.
    names : mapping of str to str
        Human names.

    Examples
    --------
    >>> tree = Hierarchy(["p", "a", "b"], {"a": {"p"}, "b": {"p", "other"}})
    >>> tree.propagate(np.array([[0.1, 0.7, 0.2]])).tolist()
    [[0.7, 0.7, 0.2]]
    """

    def __init__(
        self,
        classes: Sequence[str],
        ancestors: Mapping[str, set[str]],
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.classes = list(classes)
        self.names = dict(names or {})
        place = {name: i for i, name in enumerate(self.classes)}
        below: list[list[int]] = [[] for _ in self.classes]
        for i, name in enumerate(self.classes):
            for ancestor in ancestors.get(name, ()):
                if ancestor in place and ancestor != name:
                    below[place[ancestor]].append(i)
        self.descendants = {i: np.array(rows) for i, rows in enumerate(below) if rows}

    def propagate(self, scores: Floats) -> Floats:
        """Scores [n, classes] in which a class has at least the highest score of its descendants."""
        found = np.array(scores)
        for parent, rows in self.descendants.items():
            found[:, parent] = np.maximum(found[:, parent], scores[:, rows].max(1))
        return found


def read_go(path: Path | str, classes: Sequence[str]) -> Hierarchy:
    """The GO graph of an OBO file; ``is_a`` and ``part_of`` lead to ancestors.

    Parameters
    ----------
    path : path
        ``go-basic.obo``, also ``.gz``.
    classes : sequence of str
        GO terms; alternative ids are understood.

    Raises
    ------
    DataError
        If the file cannot be read or knows none of the terms.
    ConfigError
        If obonet is not installed.
    """
    try:
        import networkx  # heavy
        import obonet  # heavy
    except ImportError as error:
        raise ConfigError(
            "propagation over the GO graph needs obonet",
            where="--propagate",
            hint="Install it with `pip install obonet`",
        ) from error
    file = Path(path)
    if not file.is_file():
        raise DataError("no such file", where=str(file), hint=f"Download {GO_BASIC}")
    try:
        graph = obonet.read_obo(str(file))
    except Exception as error:  # obonet raises many kinds for files that are not OBO
        raise DataError(f"not an OBO file ({error})", where=str(file), expected="go-basic.obo") from error
    primary = {alt: term for term, facts in graph.nodes(data=True) for alt in facts.get("alt_id", ())}
    kept = networkx.DiGraph((a, b) for a, b, kind in graph.edges(keys=True) if kind in ("is_a", "part_of"))
    kept.add_nodes_from(graph.nodes)
    current = {name: primary.get(name, name) for name in classes}
    known = {name: term for name, term in current.items() if term in kept}
    if not known:
        raise DataError(
            "the graph knows none of the classes",
            where=str(file),
            got=f"terms such as {next(iter(graph.nodes), 'none')}",
            expected=f"terms such as {next(iter(classes), 'none')}",
        )
    # Edges point from child to parent, so that what can be reached is above.
    own = {term: name for name, term in known.items()}
    ancestors = {
        name: {own[above] for above in networkx.descendants(kept, term) if above in own}
        for name, term in known.items()
    }
    names = {name: str(graph.nodes[term].get("name", "")) for name, term in known.items()}
    return Hierarchy(classes, ancestors, names)


def ec_hierarchy(classes: Sequence[str]) -> Hierarchy:
    """The levels of EC numbers: ``1.2.3.-`` and ``1.2.3`` stand above ``1.2.3.4``.

    Raises
    ------
    DataError
        If a class is no EC number.

    Examples
    --------
    >>> tree = ec_hierarchy(["1.2.3.-", "1.2.3.4", "1.2.3.n1", "2.-.-.-"])
    >>> {tree.classes[i]: [tree.classes[j] for j in rows] for i, rows in tree.descendants.items()}
    {'1.2.3.-': ['1.2.3.4', '1.2.3.n1']}
    """
    levels = {name: ec_levels(name) for name in classes}
    by_levels = {known: name for name, known in levels.items()}
    ancestors = {
        name: {by_levels[known[:k]] for k in range(1, len(known)) if known[:k] in by_levels}
        for name, known in levels.items()
    }
    return Hierarchy(classes, ancestors)


def ec_levels(number: str) -> tuple[str, ...]:
    """Known levels of an EC number.

    Examples
    --------
    >>> ec_levels("EC 3.4.-.-"), ec_levels("1.1.1.1")
    (('3', '4'), ('1', '1', '1', '1'))
    """
    parts = number.upper().removeprefix("EC").strip(" :").lower().split(".")
    known = tuple(part for part in parts if part != "-")
    if not 1 <= len(known) <= len(parts) <= 4 or parts[: len(known)] != list(known) or not known[0].isdigit():
        raise DataError("not an EC number", where=number, expected="four levels such as 1.2.3.4 or 1.2.3.-")
    return known
