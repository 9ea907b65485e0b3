"""The shards of a large embedding checked, and joined into one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protclip.errors import ConfigError, DataError
from protclip.inference.shards import shard_facts, shard_failures, shard_path
from protclip.inference.vector_writer import VectorWriter
from protclip.work.fingerprint import fingerprint
from protclip.work.locks import claim
from protclip.work.outputs import check_output, list_failures


@dataclass(frozen=True)
class ShardSet:
    """A complete, checked set of shards.

    Attributes
    ----------
    paths : list of Path
        In order.
    rows, dim : int
        Embedded items, and the width of their vectors.
    failed : list of (id, reason)
    clashes : list of (id, path, path)
        Ids that stand in two places, with both: the first counts, the second is left out.
    made_by : dict
        Model, modality and input of them all.
    """

    paths: list[Path]
    rows: int
    dim: int
    failed: list[tuple[str, str]]
    made_by: dict[str, Any]
    clashes: list[tuple[str, Path, Path]] = field(default_factory=list)


def check_shards(folder: Path, *, may_clash: bool = False) -> ShardSet:
    """Check that the shards in a folder are all there, belong together and are sound.

    Every vector must be finite and of unit length. Memory: eight bytes an id, and one row group.

    Parameters
    ----------
    folder : Path
    may_clash : bool
        Whether an id may stand in two places; these are listed then.

    Raises
    ------
    DataError
        If a shard is missing, damaged or of another kind, or an id comes twice; names it.
    """
    paths = sorted(folder.glob("shard-*-of-*.parquet"))
    if not paths:
        raise DataError("no shards here", where=str(folder), expected="shard-00001-of-....parquet, ...")
    counts = {path.stem.rpartition("-of-")[2] for path in paths}
    if len(counts) > 1:
        raise DataError("shards of several cuts", where=str(folder), got=", ".join(sorted(counts)))
    count = int(counts.pop())
    expected = [shard_path(folder, number, count) for number in range(1, count + 1)]
    missing = [number for number, path in enumerate(expected, 1) if not path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of {count} shards are missing",
            where=str(folder),
            got="without " + ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else ""),
            hint="Give the command that makes them again; finished ones are kept",
        )
    found = _check_rows(expected, count)
    if found.clashes and not may_clash:
        id, first, second = found.clashes[0]
        raise DataError(
            "an id stands in two places",
            where=f"{first} and {second}",
            got=f"{id!r}" + (f" and {len(found.clashes) - 1} more" if len(found.clashes) > 1 else ""),
            hint="`protclip merge -o FILE` joins all the others, and lists what it leaves out",
        )
    return found


def _check_rows(paths: list[Path], count: int) -> ShardSet:
    import numpy as np
    import pandas as pd  # for its hashing; both kept out of start-up

    hashes = []
    contents: list[str] = []
    common: dict[str, Any] | None = None
    dim = 0
    for number, path in enumerate(paths, 1):
        made_by, _, dim = shard_facts(path)
        text, _, place = str(made_by["input"]).rpartition(" shard ")
        own = {**made_by, "input": text}
        contents.append(own.pop("content", ""))
        if common is None:
            common = own
        # What only one of them notes was not noted yet when the other was made.
        differ = [key for key in own if key in common and own[key] != common[key]]
        if not place.startswith(f"{number}/{count} ") or differ:
            raise DataError("a shard of another model, input or cut", where=str(path), got=str(made_by))
        common = {key: common[key] for key in common if key in own}
        for ids, vectors in _row_groups(path):
            lengths = np.linalg.norm(vectors, axis=1)
            wrong = np.flatnonzero(~(abs(lengths - 1) < 1e-2))
            if len(wrong):
                raise DataError(
                    "not a unit vector", where=f"{path}: {ids[wrong[0]]}", got=f"length {lengths[wrong[0]]:g}"
                )
            hashes.append(pd.util.hash_array(np.asarray(ids, object), categorize=False))
    every = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
    twice = set(every[1:][every[1:] == every[:-1]].tolist())
    clashes = list(_clashes(paths, twice)) if twice else []
    if all(contents):
        common = {**(common or {}), "content": fingerprint(contents)}
    failed = [row for path in paths for row in shard_failures(path)]
    return ShardSet(paths, len(every) - len(clashes), dim, failed, common or {}, clashes)


def _clashes(paths: list[Path], twice: set[int]) -> Iterator[tuple[str, Path, Path]]:
    """Ids that stand in two places; two ids of one hash are none."""
    import numpy as np
    import pandas as pd

    seen: dict[str, Path] = {}
    for path in paths:
        for ids, _ in _row_groups(path):
            for id, key in zip(ids, pd.util.hash_array(np.asarray(ids, object)).tolist(), strict=True):
                if key in twice:
                    if id in seen:
                        yield id, seen[id], path
                    seen.setdefault(id, path)


def merge_shards(shards: ShardSet, out: Path) -> int:
    """Join checked shards into one Parquet file, one row group in memory at a time.

    Their failures are listed beside it, and what is left out since its id came before.

    Returns
    -------
    int
        Rows.
    """
    if out.suffix != ".parquet":
        raise ConfigError("shards are joined into Parquet", where=f"-o {out}", expected=".parquet")
    check_output(out, inputs=shards.paths)
    clashing = {id for id, *_ in shards.clashes}
    seen: set[str] = set()
    with claim(out):
        with VectorWriter(out, shards.dim, shards.made_by["modality"], shards.made_by) as writer:
            for path in shards.paths:
                for ids, vectors in _row_groups(path):
                    kept = [row for row, id in enumerate(ids) if id not in clashing or id not in seen]
                    seen.update(clashing.intersection(ids))
                    writer.append([ids[row] for row in kept], vectors[kept])
        left_out = [
            (id, f"stands in {first.name} too, which counts; this one is of {second.name}")
            for id, first, second in shards.clashes
        ]
        list_failures(out, [*shards.failed, *left_out])
    return shards.rows


def _row_groups(path: Path) -> Iterator[tuple[list[str], Any]]:
    """Ids and vectors [n, dim] of one row group after the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                column = table["embedding"].combine_chunks()
                rows = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
                yield table["id"].to_pylist(), rows
    except (pa.ArrowException, OSError) as error:
        raise DataError("a damaged shard", where=str(path), got=str(error)[:200]) from None
