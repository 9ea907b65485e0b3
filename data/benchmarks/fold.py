"""Fold classification: the HomologyTAPE lists, and the SCOP domain files they name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protclip.data.benchmarks.listing import (
    BenchmarkLists,
    LabelTable,
    make_lists,
    read_entries,
    required_list,
)
from protclip.data.corpus.parse import Item
from protclip.errors import DataError, StructureError
from protclip.structure.protein import Protein

SPLITS = {
    "train": "training.txt",
    "valid": "validation.txt",
    "test_fold": "test_fold.txt",
    "test_superfamily": "test_superfamily.txt",
    "test_family": "test_family.txt",
}


def read_homologytape(folder: str | Path) -> BenchmarkLists:
    """Read ``class_map.txt`` and the five split lists.

    Lines are ``id<TAB>fold<TAB>fold``, in some lists with the length between them; the label is the last
    field.

    Raises
    ------
    DataError
        If a list is missing, empty or malformed, a fold is not in the class map, a domain has two labels or
        stands in two splits; with file and line.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "class_map.txt").write_text("a.1\\t0\\nb.1\\t1")
    >>> for name in SPLITS.values():
    ...     _ = (folder / name).write_text(f"d{name[:9]}_\\t138\\tb.1\\tb.1\\n")
    >>> lists = read_homologytape(folder)
    >>> lists.splits["test_fold"], lists.labels["dtest_fold_"]
    (['dtest_fold_'], (1,))
    """
    class_file = required_list(folder, "class_map.txt")
    classes = _class_map(class_file)
    table = LabelTable(classes, "fold")
    splits: dict[str, list[str]] = {}
    paths: dict[str, Path] = {}
    for split, name in SPLITS.items():
        paths[split] = path = required_list(class_file.parent, name)
        seen: dict[str, str] = {}
        for where, id, fields in read_entries(path):
            if not fields:
                raise DataError("a line without label", where=where, got=id, expected="id<TAB>fold<TAB>fold")
            table.add(where, id, [fields[-1]])
            if seen.setdefault(id, where) != where:
                raise DataError("an id twice", where=where, got=id, hint=f"It stands at {seen[id]} already")
        if not seen:
            raise DataError("an empty list", where=str(path), expected="id<TAB>fold<TAB>fold")
        splits[split] = list(seen)
    return make_lists("fold", classes, [""] * len(classes), table.labels, splits, paths, files=[class_file])


def _class_map(path: Path) -> list[str]:
    index: dict[int, str] = {}
    for where, name, fields in read_entries(path):
        if len(fields) != 1 or not fields[0].isdigit():
            raise DataError(
                "malformed line", where=where, got="\t".join([name, *fields])[:80], expected="a.1<TAB>0"
            )
        number = int(fields[0])
        if number in index or name in index.values():
            raise DataError("a class twice", where=where, got=f"{name} {number}")
        index[number] = name
    if sorted(index) != list(range(len(index))) or not index:
        raise DataError(
            "class numbers with gaps", where=str(path), got=f"{len(index)} classes", expected="0, 1, 2 ..."
        )
    return [index[i] for i in range(len(index))]


def find_domains(folder: str | Path, ids: list[str]) -> tuple[list[Item], list[tuple[str, str]]]:
    """SCOP domain files of a folder, as pdbstyle archives unpack (``ab/d1abca_.ent``) or flat.

    Returns
    -------
    items : list of Item
        What to read, in the order of `ids`.
    missing : list of (id, reason)

    Raises
    ------
    DataError
        If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError("no such folder", where=str(root), expected="SCOP pdbstyle files")
    files: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        name = path.name.lower()
        if path.is_file() and name[:1] in "deg" and not name.startswith("."):
            stem = name.removesuffix(".gz")
            for suffix in (".ent", ".pdb", ".cif", ".mmcif", ".bcif"):
                stem = stem.removesuffix(suffix)
            files.setdefault(stem, path)
    items, missing = [], []
    for id in ids:
        path_ = files.get(id.lower())
        if path_ is None:
            missing.append((id, f"no file {id}.ent in {root}"))
        else:
            items.append(Item(id, str(path_), None, ""))
    return items, missing


def read_merged(path: str | Path, id: str) -> Protein:
    """Read a SCOP domain that spans several chains (``d1dan.1``): its chains one after the other.

    Raises
    ------
    StructureError
        If the file cannot be read.

    Examples
    --------
    >>> len(read_merged("data/cath/dompdb/1ubiA00", "d1ubia_"))
    76
    """
    from protclip.structure.reading.read import read_chains  # lazy: gemmi stands behind it

    chains = read_chains(path)
    if not chains:
        raise StructureError("no protein chain", where=str(path))
    dropped: dict[str, int] = {}
    for chain in chains:
        for kind, count in chain.dropped.items():
            dropped[kind] = dropped.get(kind, 0) + count
    return Protein(
        id,
        "".join(chain.sequence for chain in chains),
        np.concatenate([chain.coords for chain in chains]),
        np.concatenate([chain.residue_number for chain in chains]),
        np.concatenate([chain.insertion_code for chain in chains]),
        None,
        dropped,
    )
