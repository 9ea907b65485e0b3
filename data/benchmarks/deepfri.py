"""EC numbers and GO terms: DeepFRI's lists, and the archives in which torchdrug packs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from protclip.data.benchmarks.chain_files import structure_stem
from protclip.data.benchmarks.listing import (
    BenchmarkLists,
    LabelTable,
    find_list,
    make_lists,
    read_entries,
    read_ids,
    required_list,
)
from protclip.data.benchmarks.published import check_task
from protclip.data.corpus.parse import Item
from protclip.errors import DataError

NAMESPACES = {
    "go-mf": "molecular_function",
    "go-bp": "biological_process",
    "go-cc": "cellular_component",
    "ec": "EC-numbers",
}
"""How the annotation files call what a task predicts."""


class Annotations(NamedTuple):
    """Classes, their names (empty where unknown), and class indices by chain."""

    classes: list[str]
    names: list[str]
    labels: dict[str, tuple[int, ...]]


def read_annotations(path: str | Path, task: str) -> Annotations:
    """Read ``*_annot.tsv`` for one task, by its ``###`` headers.

    A line that begins with ``###`` says what follows: the class list of a namespace, the names of its
    classes, or, with ``PDB-chain`` and the columns, the chains themselves with comma-separated labels.  The
    bare layout of a class list and data rows without headers is no annotation file.

    Raises
    ------
    DataError
        If a header or column is missing, a label is not among the classes, a chain has two different
        annotations, or there is no chain; with file and line.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "nrPDB-EC_annot.tsv"
    >>> text = "### EC-numbers\\n1.1.1.-\\t3.4.21.-\\n### PDB-chain\\tEC-numbers\\n1ABC-A\\t3.4.21.-"
    >>> _ = file.write_text(text)
    >>> read_annotations(file, "ec").labels
    {'1ABC-A': (1,)}
    """
    check_task(task)
    namespace = NAMESPACES[task]
    path = Path(path)
    classes: list[str] = []
    names: list[str] = []
    section, column, table = "", 0, None
    for where, first, fields in read_entries(path):
        if first.startswith("###"):
            section = first.lstrip("# ")
            if section.lower().startswith("pdb-chain"):
                column = _column(where, fields, namespace)
                table = LabelTable(classes, "EC number" if task == "ec" else "GO term")
                if not classes:
                    raise DataError(
                        f"no class list of {namespace}", where=where, expected=f"### ... {namespace}"
                    )
        elif table is not None:
            if len(fields) < column - 1:
                # Trailing empty columns are sometimes cut off; a row without a single column is not.
                fields = [*fields, *[""] * (column - 1 - len(fields))]
            cell = fields[column - 1] if len(fields) >= column else ""
            table.add(where, first, [name for name in (text.strip() for text in cell.split(",")) if name])
        elif section and _is_of(section, namespace):
            entries = [first, *fields]
            while entries and not entries[-1]:
                entries.pop()
            if "name" in section.lower():
                names = entries
            elif not classes:
                classes = entries
                twice = (
                    {c for c in classes if classes.count(c) > 1}
                    if len(set(classes)) < len(classes)
                    else set()
                )
                if twice:
                    raise DataError("a class twice in the class list", where=where, got=sorted(twice)[0])
    if table is None or not table.labels:
        raise DataError(
            "not a DeepFRI annotation file" if table is None else "no chain is annotated",
            where=str(path),
            expected="### headers, class lists, and rows of PDB-chain and labels",
        )
    if names and len(names) != len(classes):
        raise DataError(
            "class names do not fit the classes",
            where=str(path),
            got=str(len(names)),
            expected=str(len(classes)),
        )
    return Annotations(classes, names or [""] * len(classes), table.labels)


def _is_of(section: str, namespace: str) -> bool:
    return namespace.lower() in section.lower()


def _column(where: str, columns: list[str], namespace: str) -> int:
    for i, name in enumerate(columns, 1):
        if _is_of(name, namespace):
            return i
    raise DataError(
        f"no column of {namespace}",
        where=where,
        got=", ".join(columns) or "no columns",
        expected=namespace,
        hint="EC numbers and GO terms are in different annotation files",
    )


def read_cutoffs(path: str | Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read ``*_test.csv``: test chains, and those below each identity cut-off, by its header.

    Raises
    ------
    DataError
        If the header names no cut-off, a line is malformed, a chain stands there twice, or there is none.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "test.csv"
    >>> _ = file.write_text("PDB-chain,<30%,<95%\\n2FOR-A,0,1\\n1NW6-A,1,1")
    >>> read_cutoffs(file)
    (['2FOR-A', '1NW6-A'], {'30': ['1NW6-A'], '95': ['2FOR-A', '1NW6-A']})
    """
    path = Path(path)
    cuts: list[str] = []
    ids: dict[str, str] = {}
    subsets: dict[str, list[str]] = {}
    for where, id, fields in read_entries(path, ","):
        if not cuts:
            found = [re.fullmatch(r"<\s*(\d+)\s*%?", name) for name in fields]
            cuts = [match[1] for match in found if match]
            if not cuts or len(cuts) != len(fields) or len(set(cuts)) != len(cuts):
                raise DataError(
                    "no header of identity cut-offs",
                    where=where,
                    got=",".join([id, *fields])[:80],
                    expected="PDB-chain,<30%,<40%,<50%,<70%,<95%",
                )
            subsets = {cut: [] for cut in cuts}
            continue
        if len(fields) != len(cuts) or not set(fields) <= {"0", "1"}:
            raise DataError(
                "malformed line",
                where=where,
                got=",".join([id, *fields])[:80],
                expected=f"a chain and {len(cuts)} times 0 or 1",
            )
        if id in ids:
            raise DataError("an id twice", where=where, got=id, hint=f"It stands at {ids[id]} already")
        ids[id] = where
        for cut, inside in zip(cuts, fields, strict=True):
            if inside == "1":
                subsets[cut].append(id)
    if not ids:
        raise DataError("an empty list", where=str(path), expected="test chains and their cut-offs")
    return list(ids), subsets


def _annotation_file(folder: str | Path, task: str) -> Path:
    kind = "EC" if task == "ec" else "GO"
    return required_list(folder, f"*{kind}*annot.tsv")


def read_deepfri(folder: str | Path, task: str) -> BenchmarkLists:
    """Read DeepFRI's annotation table and split lists for one task.

    Raises
    ------
    DataError
        If a list is missing or malformed, a listed chain has no annotation, or stands in two splits.
    """
    path = _annotation_file(folder, task)
    kind = "EC" if task == "ec" else "GO"
    classes, names, labels = read_annotations(path, task)
    where = {
        "train": required_list(path.parent, f"*{kind}*train.txt"),
        "valid": required_list(path.parent, f"*{kind}*valid.txt"),
        "test": required_list(path.parent, f"*{kind}*test.csv"),
    }
    test, subsets = read_cutoffs(where["test"])
    splits = {"train": read_ids(where["train"]), "valid": read_ids(where["valid"]), "test": test}
    return make_lists(task, classes, names, labels, splits, where, subsets=subsets, files=[path])


def is_torchdrug(folder: str | Path) -> bool:
    """Whether a folder is an unpacked torchdrug archive: an annotation table beside train, valid and test."""
    return _split_folders(Path(folder)) is not None


def _split_folders(folder: Path) -> dict[str, Path] | None:
    for base in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        parts = {name: base / name for name in ("train", "valid", "test")}
        if all(part.is_dir() for part in parts.values()):
            return parts
    return None


def read_torchdrug(folder: str | Path, task: str) -> tuple[BenchmarkLists, list[Item], list[tuple[str, str]]]:
    """Read an unpacked torchdrug archive for one task.

    The files ``<PDB-chain>_*.pdb`` of the folders ``train``, ``valid`` and ``test`` are the splits.

    Returns
    -------
    lists : BenchmarkLists
    items : list of Item
        What to read.
    missing : list of (id, reason)
        Second files of a chain.

    Raises
    ------
    DataError
        If a folder or table is missing, a file name has no chain, or a chain has no annotation.
    """
    root = Path(folder)
    parts = _split_folders(root)
    if parts is None:
        raise DataError(
            "not an unpacked torchdrug archive", where=str(root), expected="folders train, valid and test"
        )
    base = parts["train"].parent
    path = _annotation_file(base, task)
    classes, names, labels = read_annotations(path, task)
    items: list[Item] = []
    missing: list[tuple[str, str]] = []
    splits: dict[str, list[str]] = {}
    for split, part in parts.items():
        found: dict[str, Path] = {}
        for file in sorted(part.rglob("*")):
            stem = structure_stem(file)
            if stem is None or not file.is_file():
                continue
            id = stem.split("_")[0]
            if "-" not in id:
                raise DataError("no chain in a file name", where=str(file), expected="<PDB-chain>_*.pdb")
            if id in found:
                missing.append((id, f"a second file of this chain was left out: {file.name}"))
                continue
            found[id] = file
            items.append(Item(id, str(file), id.split("-", 1)[1], ""))
        splits[split] = list(found)
    kind = "EC" if task == "ec" else "GO"
    cut_file = find_list(base, f"*{kind}*test.csv", required=False)
    subsets: dict[str, list[str]] = {}
    if cut_file is not None:
        inside = set(splits["test"])
        subsets = {cut: [id for id in ids if id in inside] for cut, ids in read_cutoffs(cut_file)[1].items()}
    lists = make_lists(
        task,
        classes,
        names,
        labels,
        splits,
        parts,
        subsets=subsets,
        packaged=True,
        files=[path, *([cut_file] if cut_file else [])],
    )
    return lists, items, missing
