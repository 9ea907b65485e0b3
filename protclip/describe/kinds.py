"""The kinds of files and folders that protclip knows, and what it says of each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from protclip.describe import datasets, protein_files, runs, small_files
from protclip.describe import embedding_files as vectors
from protclip.describe.description import Kind, head
from protclip.errors import DataError, ProtclipError

FOLDERS = (
    Kind("experiment", lambda path: (path / "experiment.toml").is_file(), runs.describe_experiment),
    Kind("head", lambda path: "head" in runs.weights_config(path), runs.describe_head),
    Kind("refit model", runs.is_refit, runs.describe_model),
    Kind("aligned vectors model", runs.is_aligned, runs.describe_aligned),
    Kind("model", lambda path: "model" in runs.weights_config(path), runs.describe_model),
    Kind("task run", lambda path: runs.is_run(path, "task", finished=True), runs.describe_task_run),
    Kind("unfinished task run", lambda path: runs.is_run(path, "task"), runs.describe_task_run),
    Kind("run", lambda path: runs.is_run(path, "train", finished=True), runs.describe_run),
    Kind("unfinished run", lambda path: runs.is_run(path, "train"), runs.describe_run),
    Kind("shards of embeddings", vectors.is_shards, vectors.describe_shards),
    Kind("unfinished embeddings", vectors.is_parts, vectors.describe_parts),
    Kind("unfinished corpus or benchmark", datasets.is_build, datasets.describe_build),
    Kind("download", datasets.is_download, datasets.describe_download),
    Kind("cache", datasets.is_cache, datasets.describe_cache),
    Kind("part of the cache", datasets.is_part_of_cache, datasets.describe_part_of_cache),
    Kind("folder of runs", lambda path: bool(runs.runs_in(path)), runs.describe_runs),
    *protein_files.FOLDERS,
)
"""Folders; the first kind that fits is the kind."""

FILES = (
    Kind("benchmark", datasets.is_benchmark_file, datasets.describe_benchmark),
    Kind("corpus", datasets.is_corpus_file, datasets.describe_corpus),
    Kind("embeddings", vectors.is_embeddings, vectors.describe_embeddings),
    Kind("embeddings", vectors.is_parquet_embeddings, vectors.describe_parquet),
    Kind("predictions", small_files.is_prediction_table, small_files.describe_prediction_table),
    Kind("predictions", small_files.is_prediction_json, small_files.describe_prediction_json),
    Kind("embeddings of another program", vectors.is_hdf5, vectors.describe_vectors),
    Kind("list of failures", small_files.is_failure_list, small_files.describe_failure_list),
    Kind("options", small_files.is_config, small_files.describe_config),
    Kind("file of a run", small_files.is_file_of_a_run, small_files.describe_file_of_a_run),
    *protein_files.FILES,
)
"""Files; the first kind that fits is the kind."""

DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError, RuntimeError)
"""What Python raises on content that is not what its kind promises."""

SIGNATURES = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF document",
    b"PK": "a zip archive or office document",
    b"PAR1": "a Parquet file without the columns id and embedding",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x93NUMPY": "a NumPy array",
    b"\x7fELF": "a program",
    b"<": "a web page or XML file",
    b"{": "a JSON file",
    b"[": "a JSON or TOML file",
}
"""First bytes of files that are none of ours."""


def describe(path: Path) -> dict[str, Any]:
    """What a file or folder is, how it was made, and what can be done with it next.

    Returns
    -------
    dict
        ``kind``, facts, ``made``, and ``next``: a list of commands.

    Raises
    ------
    DataError
        If there is no such path, or it is of no known kind; says what it looks like.
    ProtclipError
        If it is of a known kind and damaged.
    """
    if not path.exists():
        raise DataError("no such file or folder", where=str(path))
    for kind in FOLDERS if path.is_dir() else FILES:
        try:
            if not kind.fits(path):
                continue
            found = kind.describe(path)
        except ProtclipError:
            raise
        except DAMAGE as error:
            got = " ".join(str(error).strip("'\"").split())[:200]
            raise DataError(
                f"damaged {kind.name}",
                where=str(path),
                got=f"{type(error).__name__}: {got}",
                hint="Copy or make it again",
            ) from error
        facts = {name: value for name, value in found.facts.items() if value not in (None, "", {}, [])}
        return {"kind": kind.name, **facts, "made": found.made, "next": found.next}
    raise DataError(
        "this is nothing that protclip writes or reads",
        where=str(path),
        got=_folder_looks_like(path) if path.is_dir() else _file_looks_like(path),
        expected="one of: " + ", ".join(dict.fromkeys(kind.name for kind in (*FOLDERS, *FILES))),
    )


def _folder_looks_like(path: Path) -> str:
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if not entries:
        return "an empty folder"
    kinds = Counter("folders" if e.is_dir() else f"{e.suffix or 'files without ending'}" for e in entries)
    return "a folder with " + ", ".join(f"{count} {name}" for name, count in kinds.most_common(4))


def _file_looks_like(path: Path) -> str:
    data = head(path)
    if not data:
        return "an empty file, or one that may not be read"
    for signature, name in SIGNATURES.items():
        if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(signature):
            return name
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "a file that is no text"
    line = text.splitlines()[0] if text else ""
    columns = f" in {len(line.split(chr(9)))} columns" if "\t" in line else ""
    return f"plain text{columns} that begins with {line[:40]!r}"
