"""Features of frozen encoders: computed once, kept on disk, never twice for equal items."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from protclip import __version__
from protclip.data.files.h5 import new_h5
from protclip.errors import DataError
from protclip.files import atomic_path
from protclip.inference.encode import Survey, in_batches, resolved_precision
from protclip.modalities.base import Modality
from protclip.modalities.items import Chosen
from protclip.typing import Done, Vectors

Key = bytes
Rows = dict[Key, Vectors]

FORMAT = 1
SAVE_SECONDS = 20.0
"""Longest stretch of work that a crash can lose."""


def frozen_features(
    modality: Modality[Any],
    ids: Sequence[str],
    items: Sequence[Any],
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    cache: Path | None = None,
    progress: Done = lambda n: None,
) -> Vectors:
    """Encoder outputs of ``items``, from the cache where they are there.

    The cache is a folder of HDF5 parts under a key made of the modality's configuration, its weights, the
    precision and the version of the program, so that no change of these can return stale features. Parts are
    written whole, at least every 20 seconds: an interrupted call goes on where it stopped, and damaged parts
    are computed again.

    Parameters
    ----------
    modality : Modality
        Its encoder is put on ``device`` and into evaluation mode.
    ids : sequence of str
        Names of the items, for errors.
    items : sequence
        May read lazily; equal items (by :meth:`Modality.digest`) are encoded once.
    device, precision
        ``auto`` is bf16 on CUDA and fp32 elsewhere; or ``fp32``, ``bf16``.
    cache : Path, optional
        Folder; None keeps nothing.
    progress : callable
        Told the number of items just done; the numbers add up to ``len(items)``.

    Returns
    -------
    float32 array [len(items), encoder.out_dim]

    Raises
    ------
    DataError
        If ``ids`` and ``items`` differ in number, or an item's features are not finite; names it.
    ConfigError
        If the precision is unknown.

    Examples
    --------
    >>> from protclip.modalities.vectors import VectorsModality
    >>> frozen_features(VectorsModality(2), ["a"], [np.array([1.0, 2.0], np.float32)]).tolist()
    [[1.0, 2.0]]
    """
    if len(ids) != len(items):
        raise DataError("ids and items differ in number", got=f"{len(ids)} ids", expected=str(len(items)))
    device = torch.device(device)
    half = resolved_precision(device, precision) == "bf16"
    survey = Survey(modality, items, digests=True)
    keys = survey.digests
    times = Counter(keys)
    first: dict[Key, int] = {}
    for i, key in enumerate(keys):
        first.setdefault(key, i)

    trained = any(True for _ in modality.encoder.parameters())
    folder = cache / f"features-{encoder_key(modality, half)}" if cache is not None and trained else None
    rows = _read_parts(folder, modality.encoder.out_dim, set(first)) if folder else {}
    missing = [i for key, i in first.items() if key not in rows]
    progress(sum(times[key] for key in rows))
    modality.encoder.to(device).eval()
    fresh: Rows = {}
    saved = time.monotonic()
    batches = in_batches(
        [modality],
        [Chosen(survey.items, missing)],
        modality.encoder,
        device=device,
        precision=precision,
        costs=[survey.costs[i] for i in missing],
    )
    for chosen, features in batches:
        index = [missing[i] for i in chosen]
        out = features.float().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(out).all(1))
        if len(bad):
            raise DataError("the encoder's features are not finite", where=ids[index[bad[0]]])
        fresh.update(zip((keys[i] for i in index), out, strict=True))
        progress(sum(times[keys[i]] for i in index))
        if folder and time.monotonic() - saved > SAVE_SECONDS:
            _write_part(folder, fresh)
            rows |= fresh
            fresh, saved = {}, time.monotonic()
    if folder and fresh:
        _write_part(folder, fresh)
    rows |= fresh
    if not keys:
        return np.zeros((0, modality.encoder.out_dim), np.float32)
    return np.stack([rows[key] for key in keys])


def encoder_key(modality: Modality[Any], half: bool) -> str:
    """32 hexadecimal digits that change with all that decides the features of an item.

    That is the modality's configuration, its weights, the precision and the version of the program.
    """
    facts = [FORMAT, __version__, half, modality.name, modality.config()]
    total = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, value in modality.encoder.state_dict().items():
        total.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        total.update(memoryview(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return total.hexdigest()[:32]


def _read_parts(folder: Path, dim: int, wanted: set[Key]) -> Rows:
    rows: Rows = {}
    for path in sorted(folder.glob("part-*.h5")):
        try:
            with h5py.File(path, "r", locking=False) as part:
                keys, features = part["digests"][()], part["features"][()]
                check = str(part.attrs["sha256"])
        except (OSError, KeyError, ValueError, RuntimeError, TypeError):
            keys, features, check = np.zeros((0, 1), np.uint8), np.zeros((0, dim), np.float32), ""
        if features.ndim != 2 or features.shape[1] != dim or check != _checksum(keys, features):
            with suppress(OSError):  # damaged: what it held is computed again
                path.unlink()
            continue
        rows |= {
            key: row for raw, row in zip(keys, features, strict=True) if (key := raw.tobytes()) in wanted
        }
    return rows


def _write_part(folder: Path, rows: Rows) -> None:
    """Write rows as one part; its name follows from its keys, so that two processes write the same file."""
    keys = np.stack([np.frombuffer(key, np.uint8) for key in rows])
    features = np.stack(list(rows.values()))
    name = hashlib.sha256(keys.tobytes()).hexdigest()[:16]
    with atomic_path(folder / f"part-{name}.h5") as path, new_h5(path) as part:
        part["digests"] = keys
        part["features"] = features
        part.attrs["sha256"] = _checksum(keys, features)


def _checksum(keys: NDArray[Any], features: NDArray[Any]) -> str:
    return hashlib.sha256(keys.tobytes() + features.tobytes()).hexdigest()
