"""Enzyme reactions: the ProtFunct lists."""

from __future__ import annotations

from pathlib import Path

from protclip.data.benchmarks.listing import (
    BenchmarkLists,
    LabelTable,
    find_list,
    make_lists,
    read_entries,
    read_ids,
    required_list,
)
from protclip.errors import DataError

SPLITS = {"train": "training.txt", "valid": "validation.txt", "test": "testing.txt"}


def read_protfunct(folder: str | Path) -> BenchmarkLists:
    """Read ``chain_functions.txt`` (``4fae.B,247``) and the three split lists (``2pmo.X``).

    The EC number of each class comes from ``unique_functions.txt`` where that is there.

    Raises
    ------
    DataError
        If a list is missing, empty or malformed, a chain has two classes, no class, or stands in two splits;
        with file and line.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "chain_functions.txt").write_text("1abc.A,0\\n2abc.B,1\\n3abc.C,1")
    >>> for chain, name in zip(("1abc.A", "2abc.B", "3abc.C"), SPLITS.values()):
    ...     _ = (folder / name).write_text(chain)
    >>> lists = read_protfunct(folder)
    >>> lists.classes, lists.labels["3abc.C"]
    (['0', '1'], (1,))
    """
    label_file = required_list(folder, "chain_functions.txt")
    numbered: list[tuple[str, str, int]] = []
    for where, chain, fields in read_entries(label_file, ","):
        if len(fields) != 1 or not fields[0].isdigit():
            raise DataError(
                "malformed line", where=where, got=",".join([chain, *fields])[:80], expected="4fae.B,247"
            )
        numbered.append((where, chain, int(fields[0])))
    if not numbered:
        raise DataError("an empty list", where=str(label_file), expected="4fae.B,247")
    files = [label_file]
    name_file = find_list(label_file.parent, "unique_functions.txt", required=False)
    if name_file is not None:
        classes = read_ids(name_file)
        files.append(name_file)
    else:
        classes = [str(i) for i in range(max(number for *_, number in numbered) + 1)]
    table = LabelTable(classes, "reaction class")
    for where, chain, number in numbered:
        if number >= len(classes):
            raise DataError(
                "unknown reaction class",
                where=where,
                got=f"{number} of {chain}",
                expected=f"0 to {len(classes) - 1}",
            )
        table.add(where, chain, [classes[number]])
    paths = {split: required_list(label_file.parent, name) for split, name in SPLITS.items()}
    splits = {split: read_ids(path) for split, path in paths.items()}
    return make_lists("reaction", classes, [""] * len(classes), table.labels, splits, paths, files=files)
