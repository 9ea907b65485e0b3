"""Embed a large input into a file: constant memory, resumable, failures listed."""

from __future__ import annotations

import ctypes
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protclip import __version__
from protclip.errors import ConfigError, DataError
from protclip.files import atomic_path
from protclip.inference.aligned_model import AlignedModel, Window
from protclip.inference.embeddings import Embeddings
from protclip.inference.encode import resolved_precision
from protclip.inference.input_content import input_fingerprint, reads_once
from protclip.inference.vector_writer import VectorWriter, format_of
from protclip.inference.windows import SeenIds
from protclip.typing import Done
from protclip.work.locks import claim
from protclip.work.outputs import check_output, failed_path, list_failures
from protclip.work.unfinished import Unfinished


@dataclass
class EmbedReport:
    """What :func:`embed_to_file` did; every input is in the output, was skipped or failed.

    Attributes
    ----------
    inputs, embedded, skipped, failed : int
        Items of the input; of these, items in the output, items whose id came before, and items that could
        not be read.
    resumed : int
        Of the embedded ones, those taken over from an interrupted run.
    out, failed_list : Path
        The output, and the list of what was skipped or failed (written only if there is any).
    remarks : Counter
        What to know of how items were treated, with the number of items embedded now.
    """

    inputs: int
    embedded: int
    skipped: int
    failed: int
    resumed: int
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
        If the suffix of ``out`` is unknown, ``out`` is or lies in the input, or ``<out>.parts`` was made from
        something else.
    DataError
        If nothing could be embedded, ``out`` cannot be written, or another process is writing it.
    """
    if per_residue and format_of(out) == "parquet":
        raise ConfigError("residue features go to HDF5 only", where=f"-o {out}", expected=".h5")
    format_of(out)
    check_output(out, inputs=[source])
    made_by = origin(model, name, source, per_residue=per_residue)
    keep = not reads_once(made_by["content"])
    with claim(out), Unfinished(out, made_from(made_by, source), keep=keep) as parts:
        return _embed(model, name, source, out, made_by, parts, may_be_empty, done)


def _embed(
    model: AlignedModel,
    name: str,
    source: Any,
    out: Path,
    made_by: dict[str, Any],
    parts: Unfinished,
    may_be_empty: bool,
    done: Done,
) -> EmbedReport:
    seen = SeenIds()
    for ids in _finished(parts):
        for id in ids:
            seen.add(id)
    resumed = len(seen)
    done(resumed)
    failed: dict[str, str] = {}
    remarks: Counter[str] = Counter()
    inputs = skipped = 0
    stream = model.stream(
        name,
        source,
        per_residue=made_by["per_residue"],
        skip=seen.__contains__,
        done=lambda n: _give_memory_back(),
    )
    for number, window in enumerate(stream, 1):
        failed |= window.failed
        remarks.update(window.remarks)
        inputs += window.seen
        skipped += window.repeated
        if window.ids:
            # By its place in the input: a piece that was damaged is made again in its place.
            _write_part(parts.folder / f"{number:07d}.npz", window)
        done(len(window.ids))
    failed_list = failed_path(out)
    list_failures(out, failed.items())
    paths = parts.pieces("*.npz")
    if not (paths or may_be_empty):
        parts.remove()
        raise DataError(
            "nothing could be embedded",
            where=str(source),
            got=next(iter(failed.values()), "an empty input"),
            hint=f"All failures are in {failed_list}" if failed else None,
        )
    with VectorWriter(out, model.dim, name, made_by) as writer:
        for path in paths:
            part = _read_part(path)
            writer.append(part.ids, part.vectors, part.residues)
    return EmbedReport(
        inputs, writer.rows, skipped, len(failed) - skipped, resumed, out, failed_list, remarks
    )


def origin(model: AlignedModel, name: str, source: Any, *, per_residue: bool = False) -> dict[str, Any]:
    """What an output is made from, as the file says it."""
    return {
        "model": model.fingerprint,
        "modality": name,
        "input": str(source),
        "per_residue": per_residue,
        "content": input_fingerprint(model.towers.sides[name], source) if name in model.towers.sides else "",
        "precision": resolved_precision(model.towers.log_scale.device, model.precision),
    }


def made_from(made_by: dict[str, Any], source: Any) -> dict[str, Any]:
    """What decides an output, by names for the user: two runs with the same give the same output."""
    return {
        "input content": made_by["content"],
        **({"input name": source.name} if isinstance(source, Path) else {}),
        "model": made_by["model"],
        "modality": made_by["modality"],
        "precision": made_by["precision"],
        "choice of --per-residue": made_by["per_residue"],
        "version of protclip": __version__,
    }


def _give_memory_back() -> None:
    """Hand freed memory to the system, where the C library has a call for it.

    Batches of all lengths leave holes in glibc's heap: without this after every batch it goes on growing,
    window by window. It takes a few milliseconds, which only the smallest of models notice.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _finished(parts: Unfinished) -> Iterator[list[str]]:
    """Ids of the finished pieces; one that is damaged is removed, and made again."""
    for path in parts.pieces("*.npz"):
        try:
            yield _read_part(path).ids
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, DataError):
            path.unlink()


def _write_part(path: Path, window: Window) -> None:
    lengths = [len(window.residues[id]) for id in window.ids] if window.residues else []
    rows = np.concatenate([window.residues[id] for id in window.ids]) if window.residues else np.zeros((0, 0))
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez(
            stream,
            ids=np.frombuffer(json.dumps(window.ids).encode(), np.uint8),
            vectors=window.vectors,
            lengths=np.array(lengths, np.int64),
            rows=rows.astype(np.float32),
        )


def _read_part(path: Path) -> Embeddings:
    with np.load(path) as part:
        ids = json.loads(part["ids"].tobytes())
        pieces = np.split(part["rows"], np.cumsum(part["lengths"])[:-1]) if len(part["lengths"]) else []
        return Embeddings(ids, part["vectors"], "", dict(zip(ids, pieces, strict=False)))
