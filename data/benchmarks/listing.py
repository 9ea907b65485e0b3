"""What a published benchmark says in its lists, whatever their layout, and the reading they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from protclip.data.benchmarks.published import SINGLE_LABEL, Published, recognise
from protclip.data.files.lines import numbered_lines
from protclip.errors import DataError


@dataclass(frozen=True)
class BenchmarkLists:
    """The lists of one benchmark, without structures.

    Attributes
    ----------
    task, version : str
    published : Published or None
        What the counts are compared with.
    classes, class_names : list of str
        Ids and names (empty where unknown) of the C classes.
    labels : dict of str to tuple of int
        Class indices of every labelled id.
    splits : dict of str to list of str
        Ids of ``train``, ``valid`` and the test sets, in list order.
    subsets : dict of str to list of str
        Ids of the test set at each identity cut-off, in percent.
    files : tuple of Path
        The lists that were read.
    """

    task: str
    version: str
    published: Published | None
    classes: list[str]
    class_names: list[str]
    labels: dict[str, tuple[int, ...]]
    splits: dict[str, list[str]]
    subsets: dict[str, list[str]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def ids(self) -> list[str]:
        """All listed ids, split by split."""
        return [id for split in self.splits.values() for id in split]

    @property
    def expected(self) -> dict[str, int]:
        """Published counts by split and by ``test <30%`` and so on; empty for unpublished lists."""
        if self.published is None:
            return {}
        return {**self.published.counts, **{f"test <{k}%": n for k, n in self.published.subsets.items()}}


class Entry(NamedTuple):
    """One line of a list: where it stands, the id, and what follows it."""

    where: str
    id: str
    fields: list[str]


def find_list(folder: str | Path, *patterns: str, required: bool = True) -> Path | None:
    """The file of a folder, or of one below it, whose name fits one of the patterns, tried in order.

    Raises
    ------
    DataError
        If the folder or a required file is missing, or several files fit.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("no such folder", where=str(root), expected=f"a folder with {patterns[0]}")
    for pattern in patterns:
        found = sorted({*root.glob(pattern), *root.glob(f"*/{pattern}"), *root.glob(f"*/*/{pattern}")})
        here = [path for path in found if path.parent == root] or found
        if len(here) > 1:
            raise DataError(
                f"several files fit {pattern}",
                where=str(root),
                got=", ".join(str(path.relative_to(root)) for path in here[:4]),
                hint="Name the folder that holds one set of lists",
            )
        if here:
            return here[0]
    if required:
        raise DataError(
            "a list is missing",
            where=str(root),
            got=f"no {' or '.join(patterns)}",
            expected="the lists as they were published",
            hint="`protclip data download` fetches them",
        )
    return None


def required_list(folder: str | Path, *patterns: str) -> Path:
    """As :func:`find_list`, for a file that has to be there."""
    found = find_list(folder, *patterns)
    assert found is not None
    return found


def read_entries(path: Path, separator: str = "\t") -> Iterator[Entry]:
    """Lines of a list that are not empty; a last line without newline counts like any other.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    for number, line in numbered_lines(path):
        fields = [text.strip() for text in line.split(separator)]
        if any(fields):
            yield Entry(f"{path}:{number}", fields[0], fields[1:])


def read_ids(path: Path) -> list[str]:
    """Ids of a list that has nothing else, in order.

    Raises
    ------
    DataError
        On a line with more than one column, an id twice, or an empty list.
    """
    ids: dict[str, str] = {}
    for where, id, fields in read_entries(path):
        if fields or len(id.split()) != 1:
            raise DataError(
                "not a list of ids", where=where, got=" ".join([id, *fields])[:80], expected="one id"
            )
        if id in ids:
            raise DataError("an id twice", where=where, got=id, hint=f"It stands at {ids[id]} already")
        ids[id] = where
    if not ids:
        raise DataError("an empty list", where=str(path), expected="one id in each line")
    return list(ids)


class LabelTable:
    """Labels by id, with the place where each was read; conflicts are errors, repetitions are not."""

    def __init__(self, classes: Sequence[str], what: str) -> None:
        self._index = {name: i for i, name in enumerate(classes)}
        self._what = what
        self._where: dict[str, str] = {}
        self.labels: dict[str, tuple[int, ...]] = {}

    def add(self, where: str, id: str, names: Sequence[str]) -> None:
        """Take the labels of one line.

        Raises
        ------
        DataError
            If a label is none of the classes, or the id has other labels already.
        """
        unknown = [name for name in names if name not in self._index]
        if unknown:
            raise DataError(
                f"unknown {self._what}",
                where=where,
                got=f"{unknown[0]!r} of {id}",
                expected=f"one of the {len(self._index)} classes of the list",
            )
        row = tuple(sorted({self._index[name] for name in names}))
        if self.labels.setdefault(id, row) != row:
            raise DataError(
                "an id with two different labels",
                where=where,
                got=f"{id}: {', '.join(names) or 'none'}",
                hint=f"{self._where[id]} says otherwise",
            )
        self._where.setdefault(id, where)


def make_lists(
    task: str,
    classes: Sequence[str],
    class_names: Sequence[str],
    labels: Mapping[str, tuple[int, ...]],
    splits: Mapping[str, Sequence[str]],
    where: Mapping[str, Path],
    *,
    subsets: Mapping[str, Sequence[str]] | None = None,
    packaged: bool = False,
    files: Sequence[Path] = (),
    find: Callable[[str], str] = lambda id: id,
) -> BenchmarkLists:
    """Put lists together, check that they fit each other, and name their version.

    Parameters
    ----------
    where
        File of each split, for messages.
    packaged
        Whether the splits are the folders of a torchdrug archive.
    find
        Id under which the label of a listed id is filed.

    Raises
    ------
    DataError
        If a listed id has no label, or stands in two splits.
    """
    owner: dict[str, str] = {}
    kept: dict[str, tuple[int, ...]] = {}
    for name, ids in splits.items():
        for id in ids:
            if find(id) not in labels:
                raise DataError(
                    "a listed id without label",
                    where=f"{where[name]}",
                    got=id,
                    expected=f"an annotation of {id} in the label list",
                )
            if id in owner:
                raise DataError(
                    "an id in two splits",
                    where=str(where[name]),
                    got=id,
                    hint=f"It is in {owner[id]} as well",
                )
            owner[id] = name
            kept[id] = labels[find(id)]
            if task in SINGLE_LABEL and len(kept[id]) != 1:
                raise DataError("not exactly one class", where=str(where[name]), got=id)
    counts = {name: len(ids) for name, ids in splits.items()}
    version, published = recognise(task, counts, len(classes), packaged=packaged)
    return BenchmarkLists(
        task,
        version,
        published,
        list(classes),
        list(class_names),
        kept,
        {name: list(ids) for name, ids in splits.items()},
        {name: list(ids) for name, ids in (subsets or {}).items()},
        tuple(dict.fromkeys([*files, *where.values()])),
    )
