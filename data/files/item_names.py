"""What the items of files are called: by the file, and by the folders above it where that is not enough."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple


class ItemName(NamedTuple):
    """How the items of one file among others are called.

    Attributes
    ----------
    name : str
        The item in the file, if it is one.
    file : str
        Its name in full, with the same folders in front.
    taken : tuple of str
        Names of other files that begin with this one and ``_``, as names of several items in this file do.
    """

    name: str
    file: str
    taken: tuple[str, ...] = ()

    def part(self, part: str) -> str:
        """Name of one of several items in the file.

        The file's name in full stands in front where it could be taken for an item of another file.

        Examples
        --------
        >>> ItemName("two", "two.pdb").part("A"), ItemName("two", "two.pdb", ("two_AB",)).part("AB")
        ('two_A', 'two.pdb:AB')
        """
        id = f"{self.name}_{part}"
        clash = any(id == other or id.startswith(f"{other}_") for other in self.taken)
        return f"{self.file}:{part}" if clash else id


def item_names(paths: Sequence[PurePath], stem: Callable[[str], str]) -> list[ItemName]:
    """Names of files by their paths below the input, each as short as it can be and be the only one.

    Parameters
    ----------
    paths : sequence of PurePath
        Relative to what the user named.
    stem : callable
        A file name without its ending.

    Examples
    --------
    >>> paths = ["a.pdb", "r1/ranked_0.pdb", "r2/ranked_0.pdb", "b.pdb", "b.cif"]
    >>> [found.name for found in item_names([PurePath(path) for path in paths], lambda name: name[:-4])]
    ['a', 'r1/ranked_0', 'r2/ranked_0', 'b.pdb', 'b.cif']
    """
    folders = [path.parts[:-1] for path in paths]
    stems = [stem(path.name) for path in paths]
    depth = [0] * len(paths)
    names = list(stems)
    pending = _shared(names, range(len(paths)))
    while pending:
        deeper = [i for i in pending if depth[i] < len(folders[i])]
        for i in deeper:
            depth[i] += 1
            names[i] = "/".join((*folders[i][-depth[i] :], stems[i]))
        if not deeper:
            for i in pending:  # the same name with several endings
                names[i] = "/".join((*folders[i][len(folders[i]) - depth[i] :], paths[i].name))
            break
        pending = _shared(names, pending)
    full = [
        "/".join((*folder[len(folder) - deep :], path.name))
        for folder, deep, path in zip(folders, depth, paths, strict=True)
    ]
    return list(map(ItemName, names, full, _longer(names)))


def names_below(source: Path, files: Sequence[Path], stem: Callable[[str], str]) -> list[ItemName]:
    """Names of the files of an input: a folder and files in it, or a file by itself."""
    return item_names(
        [
            file.relative_to(source) if file != source and file.is_relative_to(source) else file
            for file in files
        ]
        if len(files) > 1 or source.is_dir()
        else [PurePath(file.name) for file in files],
        stem,
    )


def _shared(names: Sequence[str], places: Sequence[int] | range) -> list[int]:
    """Places whose name stands at another place too."""
    where: dict[str, list[int]] = defaultdict(list)
    for i in places:
        where[names[i]].append(i)
    return sorted(i for group in where.values() if len(group) > 1 for i in group)


def _longer(names: Sequence[str]) -> list[tuple[str, ...]]:
    """For each name, the others that go on behind it with ``_``."""
    ordered = sorted(names)
    found = []
    for name in names:
        # The character behind "_" ends the stretch of names that begin with "name_".
        start, stop = (bisect.bisect_left(ordered, name + mark) for mark in ("_", "`"))
        found.append(tuple(ordered[start:stop]))
    return found
