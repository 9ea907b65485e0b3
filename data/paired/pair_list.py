"""Lists of matched ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protclip.data.files.lines import numbered_lines
from protclip.errors import ConfigError, DataError


def read_pairs(path: Path, ids: tuple[list[str], list[str]], files: tuple[Path, Path]) -> NDArray[np.int64]:
    """Rows [p, 2] of the pairs in a file of two columns of ids.

    Columns are separated by tabs, or by white space where a line has no tab. Empty lines and lines that start
    with ``#`` are passed over, and so is a first line of which both names are unknown (a header).

    Parameters
    ----------
    path : Path
    ids : pair of lists of str
        Ids of the left and of the right rows.
    files : pair of Path
        Where these are from, for the messages.

    Raises
    ------
    DataError
        If the file cannot be read, a line has not two columns, or an id is unknown or in a second pair.
    ConfigError
        With fewer than two pairs.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "pairs.tsv"
    >>> _ = file.write_text("left\\tright\\na\\tB\\nc\\tA\\n")
    >>> read_pairs(file, (["a", "b", "c"], ["A", "B"]), (Path("l.h5"), Path("r.h5"))).tolist()
    [[0, 1], [2, 0]]
    """
    rows = tuple({id: row for row, id in enumerate(side)} for side in ids)
    taken: tuple[dict[str, int], dict[str, int]] = ({}, {})
    found: list[tuple[int, int]] = []
    first = True
    for number, line in numbered_lines(path):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}:{number}"
        names = [name.strip() for name in line.split("\t")] if "\t" in line else line.split()
        if len(names) != 2:
            raise DataError(
                "not a pair", where=where, got=f"{len(names)} columns", expected="two ids, tab between"
            )
        header = first and names[0] not in rows[0] and names[1] not in rows[1]
        first = False
        if header:
            continue
        for side in (0, 1):
            if names[side] not in rows[side]:
                swapped = names[side] in rows[1 - side]
                raise DataError(
                    f"no such id in {files[side]}",
                    where=where,
                    got=repr(names[side]),
                    expected=f"ids such as {', '.join(ids[side][:3])}",
                    hint="The columns may be swapped: LEFT's ids come first" if swapped else None,
                )
            if names[side] in taken[side]:
                raise DataError(
                    "an id is in several pairs",
                    where=where,
                    got=f"{names[side]!r}, also in line {taken[side][names[side]]}",
                    hint="Keep one of the pairs, or average the vectors of the partners",
                )
            taken[side][names[side]] = number
        found.append((rows[0][names[0]], rows[1][names[1]]))
    if len(found) < 2:
        raise ConfigError("too few pairs", where=str(path), got=f"{len(found)}", expected="at least 2")
    return np.array(found, np.int64)
