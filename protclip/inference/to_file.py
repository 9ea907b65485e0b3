"""Embed a large input into a file: constant memory, resumable, failures listed."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protclip.errors import ConfigError, DataError
from protclip.files import atomic_path, atomic_write
from protclip.inference.aligned_model import AlignedModel, Window
from protclip.inference.embeddings import Embeddings
from protclip.inference.windows import SeenIds
from protclip.typing import Done

SUFFIXES = (".h5", ".hdf5", ".parquet")


@dataclass
class EmbedReport:
    """What :func:`embed_to_file` did.

    Attributes
    ----------
    embedded, resumed, failed : int
        Items in the output; of these, taken over from an interrupted run; items that could not be read.
    out, failed_list : Path
        The output, and the list of failures (written only if there are any).
    remarks : Counter
        What to know of how items were treated, with the number of items embedded now.
    """

    embedded: int
    resumed: int
    failed: int
    out: Path
    failed_list: Path
    remarks: Counter[str]


def embed_to_file(
    model: AlignedModel,
    name: str,
    source: Any,
    out: Path,
    *,
    per_residue: bool = False,
    may_be_empty: bool = False,
    done: Done = lambda n: None,
) -> EmbedReport:
    """Stream ``source`` through side ``name`` of ``model`` into ``out``.

    Every finished window is kept in ``<out>.parts`` until the end, so that a killed run goes on where it
    stopped when the same command is given again. ``out`` appears when it is complete; it says what it was
    made from (``made_by``, JSON in the file's metadata). With ``may_be_empty``, it may have no row.

    Raises
    ------
    ConfigError
        If the suffix of ``out`` is unknown, or ``<out>.parts`` belongs to another model or input.
    DataError
        If nothing could be embedded.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError("unknown output format", where=f"-o {out}", expected=" or ".join(SUFFIXES))
    if per_residue and out.suffix == ".parquet":
        raise ConfigError("residue features go to HDF5 only", where=f"-o {out}", expected=".h5")
    parts = out.with_name(out.name + ".parts")
    made_by = origin(model, name, source, per_residue=per_residue)
    finished = _open_parts(parts, made_by)
    seen = SeenIds()
    for path in finished:
        for id in _read_part(path).ids:
            seen.add(id)
    resumed = len(seen)
    done(resumed)
    number = len(finished)
    failed: dict[str, str] = {}
    remarks: Counter[str] = Counter()
    stream = model.stream(
        name,
        source,
        per_residue=per_residue,
        skip=seen.__contains__,
        done=lambda n: _give_memory_back(),
    )
    for window in stream:
        failed |= window.failed
        remarks.update(window.remarks)
        if window.ids:
            number += 1
            _write_part(parts / f"{number:07d}.npz", window)
        done(len(window.ids))
    failed_list = out.with_name(out.stem + ".failed.tsv")
    _write_failures(failed_list, failed)
    paths = sorted(parts.glob("*.npz"))
    if not (paths or may_be_empty):
        shutil.rmtree(parts)
        raise DataError(
            "nothing could be embedded",
            where=str(source),
            got=next(iter(failed.values()), "an empty input"),
            hint=f"All failures are in {failed_list}" if failed else None,
        )
    total = _assemble(paths, out, made_by, model.dim)
    shutil.rmtree(parts)
    return EmbedReport(total, resumed, len(failed), out, failed_list, remarks)


def origin(model: AlignedModel, name: str, source: Any, *, per_residue: bool = False) -> dict[str, Any]:
    """What an output is made from: two runs with the same origin give the same output."""
    return {"model": model.fingerprint, "modality": name, "input": str(source), "per_residue": per_residue}


def _give_memory_back() -> None:
    """Hand freed memory to the system, where the C library has a call for it.

    Batches of all lengths leave holes in glibc's heap: without this after every batch it goes on growing,
    window by window. It takes a few milliseconds, which only the smallest of models notice.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _open_parts(parts: Path, made_by: dict[str, Any]) -> list[Path]:
    note = parts / "made_by.json"
    if note.exists():
        before = json.loads(note.read_text())
        if before != made_by:
            changed = ", ".join(key for key in made_by if before.get(key) != made_by[key])
            raise ConfigError(
                "an interrupted run of another kind is in the way",
                where=str(parts),
                got=f"another {changed}",
                hint="Finish that run with its own command, delete the folder, or choose another output",
            )
        return sorted(parts.glob("*.npz"))
    parts.mkdir(parents=True, exist_ok=True)
    atomic_write(note, json.dumps(made_by))
    return []


def _write_part(path: Path, window: Window) -> None:
    lengths = [len(window.residues[id]) for id in window.ids] if window.residues else []
    rows = np.concatenate([window.residues[id] for id in window.ids]) if window.residues else np.zeros((0, 0))
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez(
            stream,
            ids=np.array([id.encode() for id in window.ids]),
            vectors=window.vectors,
            lengths=np.array(lengths, np.int64),
            rows=rows.astype(np.float32),
        )


def _read_part(path: Path) -> Embeddings:
    with np.load(path) as part:
        ids = [id.decode() for id in part["ids"]]
        pieces = np.split(part["rows"], np.cumsum(part["lengths"])[:-1]) if len(part["lengths"]) else []
        return Embeddings(ids, part["vectors"], "", dict(zip(ids, pieces, strict=False)))


def _write_failures(path: Path, failed: dict[str, str]) -> None:
    if not failed:
        path.unlink(missing_ok=True)
        return
    rows = "".join(f"{id}\t{' '.join(reason.split())}\n" for id, reason in failed.items())
    atomic_write(path, "id\treason\n" + rows)


def _assemble(paths: list[Path], out: Path, made_by: dict[str, Any], dim: int) -> int:
    """Join the parts, one in memory at a time."""
    writer = _to_parquet if out.suffix == ".parquet" else _to_hdf5
    with atomic_path(out) as partial:
        return writer(paths, partial, made_by, dim)


def _to_hdf5(paths: list[Path], partial: Path, made_by: dict[str, Any], dim: int) -> int:
    import h5py  # kept out of start-up

    total = 0
    with h5py.File(partial, "w") as f:
        f.attrs.update(
            {"format": "protclip embeddings", "format_version": 1, "modality": made_by["modality"]}
        )
        f.attrs["made_by"] = json.dumps(made_by)
        ids = f.create_dataset("ids", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(4096,))
        vectors = f.create_dataset(
            "embeddings", (0, dim), np.float32, maxshape=(None, dim), chunks=(1024, dim)
        )
        for path in paths:
            part = _read_part(path)
            ids.resize(total + len(part), 0)
            vectors.resize(total + len(part), 0)
            ids[total:], vectors[total:] = part.ids, part.vectors
            for id, rows in part.residues.items():
                f.create_dataset(f"residues/{id.replace('/', '_')}", data=rows)
            total += len(part)
    return total


def _to_parquet(paths: list[Path], partial: Path, made_by: dict[str, Any], dim: int) -> int:
    import pyarrow as pa  # kept out of start-up
    import pyarrow.parquet as pq

    total = 0
    facts = {"modality": made_by["modality"], "made_by": json.dumps(made_by)}
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float32(), dim))], metadata=facts)
    # Hardly two values are equal: a dictionary of them takes memory and makes the file a third larger.
    with pq.ParquetWriter(partial, schema, use_dictionary=False) as writer:
        for path in paths:
            part = _read_part(path)
            flat = pa.array(np.ascontiguousarray(part.vectors).reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(flat, dim)
            writer.write_table(pa.table([pa.array(part.ids), column], schema=schema))
            total += len(part)
    return total
