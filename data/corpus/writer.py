"""Writing a corpus file, streaming: memory stays at one block of residues plus a few bytes a protein."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protclip.data.corpus.cath import CathLabel
from protclip.data.corpus.layout import (
    CHUNK,
    CLUSTER_LEVELS,
    FORMAT,
    FORMAT_VERSION,
    MISSING,
    N_C_O,
    PER_RESIDUE,
    Fingerprint,
    to_int,
)
from protclip.data.files.h5 import new_h5
from protclip.errors import DataError
from protclip.files import atomic_path
from protclip.structure.protein import Protein

if TYPE_CHECKING:
    import h5py

BLOCK = 16 * CHUNK
"""Residues held back before a block is written."""

RawProtein = tuple[str, int, bool, Mapping[str, int]]
"""Id, length, whether there is pLDDT, what reading left out."""

NO_LABEL = CathLabel("")


class CorpusWriter:
    """Write one corpus file; it appears under its name only when the ``with`` block ends well.

    Parameters
    ----------
    path
        File to write, replaced atomically.
    labels
        CATH labels by domain id; ids without one get empty codes.
    provenance
        JSON-able facts about origin and settings.
    durable
        Wait until the disk has it; see :func:`protclip.files.atomic_path`.

    Raises
    ------
    DataError
        On a duplicate id, an id or coordinate that cannot be stored, or a full disk.
    """

    def __init__(
        self,
        path: str | Path,
        labels: Mapping[str, CathLabel] | None = None,
        provenance: Mapping[str, Any] | None = None,
        *,
        durable: bool = True,
    ) -> None:
        self.path = Path(path)
        self._durable = durable
        self.provenance = dict(provenance or {})
        self._labels = labels or {}
        self._ids: dict[str, CathLabel] = {}
        self._lengths: list[int] = []
        self._has_plddt: list[bool] = []
        self._kinds: dict[str, int] = {}
        self._dropped: list[tuple[int, int, int]] = []
        self._pending: dict[str, list[NDArray[Any]]] = {name: [] for name in PER_RESIDUE}
        self._n_pending = 0
        self._written = 0
        self._digest = Fingerprint()
        self._stack = ExitStack()
        self._file: h5py.File | None = None

    def __enter__(self) -> CorpusWriter:
        temporary = self._stack.enter_context(atomic_path(self.path, durable=self._durable))
        # Format 1.10 checksums the file's own metadata, and the result does not depend on the clock.
        self._file = self._stack.enter_context(new_h5(temporary, libver=("v110", "v110")))
        for name, (shape, dtype, fill) in PER_RESIDUE.items():
            self._file.create_dataset(
                name,
                (0, *shape),
                dtype,
                maxshape=(None, *shape),
                chunks=(CHUNK, *shape),
                fillvalue=fill,
                fletcher32=True,
                track_times=False,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> bool | None:
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        return self._stack.__exit__(kind, error, trace)

    @property
    def is_open(self) -> bool:
        """Whether the ``with`` block has begun."""
        return self._file is not None

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, protein: Protein) -> None:
        """Append one protein."""
        n = len(protein)
        try:
            ca, backbone = to_int(protein.coords[:, 1]), to_int(protein.coords[:, N_C_O])
        except OverflowError as error:
            raise DataError("coordinate out of range", where=protein.id, got=str(error)) from None
        try:
            sequence = np.frombuffer(protein.sequence.encode("ascii"), np.uint8)
        except UnicodeEncodeError:
            raise DataError(
                "sequence is not ASCII", where=protein.id, got=repr(protein.sequence[:40])
            ) from None
        plddt = np.full(n, np.nan, np.float32) if protein.plddt is None else protein.plddt
        self._add_protein(protein.id, n, protein.plddt is not None, protein.dropped)
        values = (
            ca,
            backbone,
            sequence,
            protein.residue_number,
            protein.insertion_code.view(np.uint8),
            plddt,
        )
        self._add_residues(dict(zip(PER_RESIDUE, values, strict=True)), n)

    def add_raw(self, ids: Iterable[RawProtein], values: Mapping[str, NDArray[Any]]) -> None:
        """Append proteins in stored form, as :meth:`Corpus.raw_blocks` gives them."""
        total = 0
        for id, length, has_plddt, dropped in ids:
            self._add_protein(id, length, has_plddt, dropped)
            total += length
        self._add_residues(values, total)

    def _add_protein(self, id: str, length: int, has_plddt: bool, dropped: Mapping[str, int]) -> None:
        if id in self._ids:
            raise DataError(
                "two proteins have the same id", where=str(self.path), got=id, expected="unique ids"
            )
        if not id or "\0" in id:
            raise DataError("not an id", where=str(self.path), got=repr(id), expected="some text without NUL")
        label = self._labels.get(id, NO_LABEL)
        for kind, count in sorted(dropped.items()):
            self._dropped.append((len(self._ids), self._kinds.setdefault(kind, len(self._kinds)), count))
        self._ids[id] = label
        self._lengths.append(length)
        self._has_plddt.append(has_plddt)
        self._digest.add_protein(
            id, length, (has_plddt, label.code, *(getattr(label, k) for k in CLUSTER_LEVELS))
        )

    def _add_residues(self, values: Mapping[str, NDArray[Any]], n: int) -> None:
        for name in PER_RESIDUE:
            if len(values[name]) != n:
                raise DataError(f"{name} has the wrong length", got=str(len(values[name])), expected=str(n))
            self._pending[name].append(values[name])
        self._n_pending += n
        if self._n_pending >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._file is None or self._n_pending == 0:
            return
        end = self._written + self._n_pending
        for name, parts in self._pending.items():
            block = np.concatenate(parts)
            parts.clear()
            self._digest.add_residues(name, block)
            self._file[name].resize(end, axis=0)
            # Chunks that are never written take no space and read as the fill value: C-alpha models
            # then cost nothing for N, C and O, experimental ones nothing for pLDDT.
            empty = (name == "backbone" and block.max() == MISSING) or (
                name == "plddt" and np.isnan(block).all()
            )
            if not empty:
                self._file[name][self._written : end] = block
        self._written, self._n_pending = end, 0

    def _finish(self) -> None:
        self._flush()
        labels = list(self._ids.values())
        columns: dict[str, NDArray[Any]] = {
            "offset": np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)]).astype("<i8"),
            "has_plddt": np.asarray(self._has_plddt, bool),
            "id": np.array([id.encode() for id in self._ids], "S"),
            "code": np.array([label.code.encode() for label in labels], "S"),
            "resolution": np.array([label.resolution for label in labels], "<f4"),
            "dropped": np.array(self._dropped, "<i4").reshape(-1, 3),
        }
        for level in CLUSTER_LEVELS:
            columns[level] = np.array([getattr(label, level) for label in labels], "<i4")
        if self._file is None:
            raise DataError(
                "the writer is not open", where=str(self.path), hint="Use it in a `with` statement"
            )
        for name, column in columns.items():
            checked = (
                {"chunks": (min(len(column), 65536), *column.shape[1:]), "fletcher32": True}
                if len(column)
                else {}
            )
            self._file.create_dataset(name, data=column, track_times=False, **checked)
        self._file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            provenance=json.dumps(self.provenance, sort_keys=True),
            dropped_kinds=json.dumps(list(self._kinds)),
            fingerprint=self._digest.hexdigest(),
        )


def write_corpus(
    path: str | Path,
    proteins: Iterable[Protein],
    labels: Mapping[str, CathLabel] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> int:
    """Write proteins into one corpus file, atomically, and return how many there were.

    Raises
    ------
    DataError
        On a duplicate id, coordinates beyond the stored range, or an unwritable file.

    Examples
    --------
    >>> import tempfile
    >>> from protclip.data.corpus.store import Corpus
    >>> ca = np.array([[0, 0, 0], [3.8, 0, 0]])
    >>> file = Path(tempfile.mkdtemp()) / "small.h5"
    >>> write_corpus(file, [Protein.from_ca("1abcA00", "GA", ca)], {"1abcA00": CathLabel("1.10.8.10", 1)})
    1
    >>> Corpus.open(file).clusters.tolist()
    ['1.10.8.10.1']
    """
    with CorpusWriter(path, labels, provenance) as writer:
        for protein in proteins:
            writer.add(protein)
    return len(writer)
