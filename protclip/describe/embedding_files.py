"""Vectors on the disk: embeddings in HDF5 and Parquet, shards, and embeddings that are not finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protclip.describe.description import Description, command, json_table, made, starts_with
from protclip.describe.protein_files import vector_uses
from protclip.errors import DataError

if TYPE_CHECKING:
    import h5py
    import pyarrow.parquet as pq

HDF5, PARQUET = b"\x89HDF\r\n\x1a\n", b"PAR1"
SHARDS = "shard-*-of-*.parquet"


def is_shards(path: Path) -> bool:
    """Whether a folder holds shards of embeddings."""
    return any(path.glob(SHARDS))


def is_parts(path: Path) -> bool:
    """Whether a folder holds the finished pieces of embeddings that were interrupted."""
    return "input" in json_table(path / "made_by.json")


def is_hdf5(path: Path) -> bool:
    """Whether a file says that it is HDF5."""
    return starts_with(path, HDF5)


def hdf5_names(path: Path) -> set[str]:
    """Names at the top of an HDF5 file; none if it cannot be opened."""
    if not is_hdf5(path):
        return set()
    import h5py  # kept out of the other kinds

    try:
        with h5py.File(path, "r") as file:
            return set(file)
    except (OSError, RuntimeError):
        return set()


def is_embeddings(path: Path) -> bool:
    """Whether an HDF5 file holds ids and a matrix of embeddings."""
    return {"ids", "embeddings"} <= hdf5_names(path)


def is_parquet(path: Path) -> bool:
    """Whether a file says that it is Parquet."""
    return starts_with(path, PARQUET)


def parquet_columns(path: Path) -> list[str]:
    """Columns of a Parquet file; none if it cannot be read."""
    if not is_parquet(path):
        return []
    import pyarrow as pa  # kept out of the other kinds
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return []


def is_parquet_embeddings(path: Path) -> bool:
    """Whether a Parquet file holds ids and embeddings."""
    return {"id", "embedding"} <= set(parquet_columns(path))


def _text(value: Any) -> str:
    """An id as text, whatever the file stores: bytes, text or numbers."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _origin(made_by: Mapping[str, Any]) -> str:
    """The command that made embeddings, as far as they say it."""
    if not made_by:
        return ""
    text = f"protclip embed -i {made_by.get('input')} --modality {made_by.get('modality')}"
    return f"{text} by the model {str(made_by.get('model'))[:12]}"


def _uses(path: Path, modality: str) -> list[str]:
    if path.suffix == ".parquet":
        return [f"python -c \"import pandas; print(pandas.read_parquet('{path}'))\""]
    align = command("align-vectors", path, "OTHER.h5", "--pairs", "PAIRS.tsv", "-o", "aligned")
    return [align, *vector_uses(path, modality)]


def describe_embeddings(path: Path) -> Description:
    """Embeddings in HDF5, by protclip or in the same layout."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _describe_hdf5(path, file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError("damaged embeddings", where=str(path), got=str(error).strip("'\"")[:200]) from None


def _describe_hdf5(path: Path, file: h5py.File) -> Description:
    vectors, residues = file["embeddings"], file.get("residues")
    if vectors.ndim != 2 or len(file["ids"]) != len(vectors):
        raise ValueError(f"{len(file['ids'])} ids for embeddings {list(vectors.shape)}")
    modality = _text(file.attrs.get("modality", ""))
    facts = {
        "items": len(vectors),
        "dim": vectors.shape[1],
        "modality": modality,
        "ids": _some([_text(id) for id in file["ids"][:4]]),
        "residues": f"features of the residues of {len(residues)} items" if residues is not None else None,
        "format": "HDF5, datasets ids and embeddings",
    }
    made_by = json.loads(_text(file.attrs["made_by"])) if "made_by" in file.attrs else {}
    return Description(facts, made(_origin(made_by), at=path), _uses(path, modality))


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")


def describe_parquet(path: Path) -> Description:
    """Embeddings in Parquet: a whole file, or one shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return _describe_parquet(path, file)
    except (pa.ArrowException, OSError, ValueError, StopIteration) as error:
        raise DataError("damaged embeddings", where=str(path), got=str(error)[:200]) from None


def _describe_parquet(path: Path, file: pq.ParquetFile) -> Description:
    found = {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in (file.schema_arrow.metadata or {}).items()
    }
    first = next(file.iter_batches(batch_size=4), None) if file.metadata.num_rows else None
    kind = file.schema_arrow.field("embedding").type
    width = getattr(kind, "list_size", None)
    if width is None and first is not None:
        width = len(first["embedding"][0])
    facts = {
        "items": file.metadata.num_rows,
        "dim": width,
        "modality": found.get("modality"),
        "ids": _some([str(id) for id in first["id"].to_pylist()]) if first is not None else "",
        "format": "Parquet, columns id and embedding",
    }
    made_by = json.loads(found.get("made_by", "{}"))
    return Description(facts, made(_origin(made_by), at=path), _uses(path, found.get("modality", "")))


def describe_vectors(path: Path) -> Description:
    """Embeddings of other programs that protclip reads, one dataset for each id for example."""
    from protclip.data.files.vector_file import VectorFile

    with VectorFile.open(path) as vectors:
        ids = vectors.ids
        facts = {
            "items": len(ids),
            "dim": vectors.dim,
            "ids": _some(ids[:4]),
            "format": f"HDF5, {vectors.layout}",
        }
    return Description(facts, made("by another program", at=path), _uses(path, ""))


def describe_shards(path: Path) -> Description:
    """A folder of shards: how many there are and which are missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(path.glob(SHARDS))
    count = int(files[0].stem.rpartition("-of-")[2])
    there = {int(file.stem.split("-")[1]) for file in files}
    missing = [number for number in range(1, count + 1) if number not in there]
    try:
        items = sum(pq.read_metadata(file).num_rows for file in files)
        first = describe_parquet(files[0])
    except (pa.ArrowException, OSError) as error:
        raise DataError("a damaged shard", where=str(path), got=str(error)[:200]) from None
    facts = {
        "shards": f"{len(files)} of {count}",
        "missing": ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else ""),
        "items": items,
        "dim": first.facts["dim"],
        "modality": first.facts["modality"],
    }
    embed = ("embed", "MODEL", "-i", "INPUT", "-o", path)
    uses = [command(*embed, "--shard", f"{missing[0]}/{count}")] if missing else []
    return Description(facts, first.made, uses or [command("merge", path, "-o", f"{path}.parquet")])


def describe_parts(path: Path) -> Description:
    """Finished pieces of embeddings that were interrupted."""
    made_by = json_table(path / "made_by.json")
    out = path.with_name(path.name.removesuffix(".parts"))
    facts = {
        "output": out,
        "finished pieces": len([file for file in path.iterdir() if file.name != "made_by.json"]),
        "modality": made_by.get("modality"),
    }
    again = command("embed", "MODEL", "-i", made_by.get("input", "INPUT"), "-o", out)
    return Description(facts, made(_origin(made_by), at=path / "made_by.json"), [again])
