"""The corpus: proteins in one HDF5 file, opened lazily, read at random by any number of processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.data.corpus.layout import (
    CLUSTER_LEVELS,
    FORMAT,
    FORMAT_VERSION,
    N_C_O,
    PER_RESIDUE,
    Fingerprint,
    to_float,
)
from protclip.data.corpus.writer import CorpusWriter, RawProtein, write_corpus
from protclip.data.files.h5 import LazyH5
from protclip.errors import DataError
from protclip.structure.protein import Protein

__all__ = ["Corpus", "CorpusWriter", "write_corpus"]

READ_BLOCK = 1 << 20
"""Residues read at once when many proteins are asked for."""


class Corpus(LazyH5):
    """A corpus file of n proteins.

    Make one with :meth:`open`. Coordinates are read when asked for; ids, lengths and labels are read
    once. The object can be pickled and used after a fork.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "small.h5"
    >>> ca = np.array([[0, 0, 0], [3.8, 0, 0]])
    >>> _ = write_corpus(file, [Protein.from_ca("a", "GA", ca), Protein.from_ca("b", "WY", ca)])
    >>> with Corpus.open(file) as corpus:
    ...     len(corpus), corpus.ids, corpus.lengths.tolist(), corpus[1], corpus.sequence(0)
    (2, ['a', 'b'], [2, 2], Protein('b', 2 residues, 2 with C-alpha), 'GA')
    """

    what = "corpus file"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._columns: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, path: str | Path) -> Corpus:
        """Open a corpus file and check that it is whole and of a known version.

        Raises
        ------
        DataError
            If the file is missing, cut off, damaged, foreign or of a newer format.
        """
        corpus = cls(path)
        try:
            corpus._check()
        except DataError:
            corpus.close()
            raise
        return corpus

    def _missing_hint(self) -> str:
        return "`protclip data build --cath DIR -o FILE` makes one"

    def _check(self) -> None:
        with self._damage():
            attrs = self.file.attrs
            kind, version = attrs.get("format"), attrs.get("format_version", 0)
            if kind != FORMAT:
                got = f"an HDF5 file with {', '.join(list(self.file)[:4]) or 'nothing inside'}"
                raise DataError("not a corpus file", where=str(self.path), got=got, expected=FORMAT)
            if int(version) > FORMAT_VERSION:
                raise DataError(
                    "corpus written by a newer protclip",
                    where=str(self.path),
                    got=f"format_version {version}",
                    expected=f"at most {FORMAT_VERSION}",
                    hint="Update protclip or build the corpus again",
                )
            if len(str(attrs["fingerprint"])) != 64:
                raise ValueError("no fingerprint")
            offset = self._column("offset")
            n, total = len(offset) - 1, int(offset[-1])
            if offset[0] != 0 or (np.diff(offset) < 1).any():
                raise ValueError("offsets that do not increase")
            for name, (shape, _, _) in PER_RESIDUE.items():
                if self.file[name].shape != (total, *shape):
                    raise ValueError(f"{name} has shape {self.file[name].shape}, not {(total, *shape)}")
            for name in ("id", "code", "has_plddt", "resolution", *CLUSTER_LEVELS):
                if len(self._column(name)) != n:
                    raise ValueError(f"{name} has {len(self._column(name))} entries, not {n}")
            kinds = json.loads(str(attrs["dropped_kinds"]))
            dropped = self._column("dropped")
            if len(dropped) and ((dropped < 0).any() or (dropped[:, :2].max(0) >= (n, len(kinds))).any()):
                raise ValueError("counts of dropped things that fit no protein")

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            with self._damage():
                column = self.file[name][()]
                # Bytes on disk; text once, here.
                self._columns[name] = np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column
        return self._columns[name]

    def __len__(self) -> int:
        return len(self._column("offset")) - 1

    def __repr__(self) -> str:
        return f"Corpus({str(self.path)!r}, {len(self)} proteins, {int(self._column('offset')[-1])} residues)"

    @property
    def ids(self) -> list[str]:
        """Protein ids, n of them, in corpus order."""
        ids: list[str] = self._column("id").tolist()
        return ids

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Residues of each protein, int64 [n]."""
        return np.diff(self._column("offset"))

    @property
    def codes(self) -> NDArray[np.str_]:
        """CATH superfamily ``C.A.T.H`` of each protein, empty where unknown, str [n]."""
        return self._column("code")

    @property
    def clusters(self) -> NDArray[np.str_]:
        """S35 cluster ``C.A.T.H.S`` of each protein, empty where unknown, str [n]."""
        s35 = self._column("s35")
        named = np.char.add(np.char.add(self.codes, "."), s35.astype(str))
        return np.where(s35 > 0, named, "")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content (ids, labels, residues), independent of path and provenance."""
        with self._damage():
            return str(self.file.attrs["fingerprint"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin and settings as written by the builder."""
        with self._damage():
            found: dict[str, Any] = json.loads(str(self.file.attrs["provenance"]))
        return found

    def __getitem__(self, i: int) -> Protein:
        return self.proteins([i])[0]

    def __iter__(self) -> Iterator[Protein]:
        for block in self._runs(np.arange(len(self))):
            yield from self._read(block)

    def sequence(self, i: int) -> str:
        """Sequence of protein i, without reading coordinates."""
        return self.sequences([i])[0]

    def sequences(self, indices: Sequence[int] | NDArray[np.integer] | None = None) -> list[str]:
        """Sequences of some or all proteins, in the order asked for, without reading coordinates."""
        wanted = np.arange(len(self)) if indices is None else self._indices(indices)
        offset = self._column("offset")
        found: dict[int, str] = {}
        for run in self._runs(np.unique(wanted)):
            start = offset[run[0]]
            with self._damage():
                text = self._dataset("sequence")[start : offset[run[-1] + 1]].tobytes().decode("ascii")
            found.update((int(i), text[offset[i] - start : offset[i + 1] - start]) for i in run)
        return [found[int(i)] for i in wanted]

    def proteins(self, indices: Sequence[int] | NDArray[np.integer]) -> list[Protein]:
        """Many proteins at once, in the order asked for; neighbours in the file are read together.

        Raises
        ------
        DataError
            If an index is out of range or the file turns out to be damaged.
        """
        wanted = self._indices(indices)
        found: dict[int, Protein] = {}
        for run in self._runs(np.unique(wanted)):
            found.update(zip(run.tolist(), self._read(run), strict=True))
        return [found[int(i)] for i in wanted]

    def _indices(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        wanted = np.asarray(indices, np.int64).reshape(-1)
        n = len(self)
        if len(wanted) and not (-n <= wanted.min() and wanted.max() < n):
            # IndexError would be read as the end of an iteration by callers that loop over [i].
            raise DataError(
                "no such protein", where=str(self.path), got=f"index {wanted}", expected=f"0 to {n - 1}"
            )
        return np.where(wanted < 0, wanted + n, wanted)

    def _runs(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Cut sorted indices into runs of neighbours of at most READ_BLOCK residues."""
        if not len(indices):
            return
        block = self._column("offset")[indices] // READ_BLOCK
        cuts = np.flatnonzero((np.diff(indices) > 1) | (np.diff(block) > 0)) + 1
        yield from np.split(indices, cuts)

    def _raw(self, run: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        offset = self._column("offset")
        rows = slice(int(offset[run[0]]), int(offset[run[-1] + 1]))
        with self._damage():
            return {name: self._rows(name, rows) for name in PER_RESIDUE}

    def _rows(self, name: str, rows: slice) -> NDArray[Any]:
        dataset = self._dataset(name)
        if dataset.id.get_storage_size() == 0:
            # No atom of the kind in the whole corpus: do not ask HDF5 for fill values.
            shape, dtype, fill = PER_RESIDUE[name]
            return np.full((rows.stop - rows.start, *shape), fill, dtype)
        found: NDArray[Any] = dataset[rows]
        return found

    def _read(self, run: NDArray[np.int64]) -> list[Protein]:
        raw = self._raw(run)
        coords = np.empty((len(raw["ca"]), 4, 3), np.float32)
        coords[:, 1] = to_float(raw["ca"])
        coords[:, N_C_O] = to_float(raw["backbone"])
        icodes = raw["insertion_code"].view("S1")
        offset, ids, has_plddt = self._column("offset"), self._column("id"), self._column("has_plddt")
        proteins = []
        with self._damage():
            for i, dropped in zip(run, self._dropped_of(run), strict=True):
                part = slice(offset[i] - offset[run[0]], offset[i + 1] - offset[run[0]])
                proteins.append(
                    Protein(
                        str(ids[i]),
                        raw["sequence"][part].tobytes().decode("ascii"),
                        coords[part],
                        raw["residue_number"][part],
                        icodes[part],
                        raw["plddt"][part] if has_plddt[i] else None,
                        dropped,
                    )
                )
        return proteins

    def __getstate__(self) -> dict[str, Any]:
        # Workers read the columns themselves: cheaper than sending them.
        return {**super().__getstate__(), "_columns": {}}

    def dropped(self, i: int | None = None) -> dict[str, int]:
        """What reading left out, by kind: of protein i, or of the whole corpus."""
        if i is not None:
            return self._dropped_of(np.array([i]))[0]
        kinds, counts = self._kinds(), Counter[str]()
        for _, kind, count in self._column("dropped").tolist():
            counts[kinds[kind]] += count
        return dict(counts)

    def _kinds(self) -> list[str]:
        if "dropped_kinds" not in self._columns:
            with self._damage():
                self._columns["dropped_kinds"] = np.array(json.loads(str(self.file.attrs["dropped_kinds"])))
        kinds: list[str] = self._columns["dropped_kinds"].tolist()
        return kinds

    def _dropped_of(self, run: NDArray[np.int64]) -> list[dict[str, int]]:
        """What reading left out of each protein of a run of neighbours."""
        found: list[dict[str, int]] = [{} for _ in run]
        table = self._column("dropped")  # sorted by protein
        first, last = np.searchsorted(table[:, 0], [run[0], run[-1] + 1])
        if first < last:
            kinds = self._kinds()
            for i, kind, count in table[first:last].tolist():
                counts = found[i - run[0]]
                counts[kinds[kind]] = counts.get(kinds[kind], 0) + count
        return found

    def raw_blocks(
        self,
    ) -> Iterator[tuple[list[RawProtein], dict[str, NDArray[Any]]]]:
        """Proteins in stored form, block by block, for :meth:`CorpusWriter.add_raw`."""
        lengths, ids, has_plddt = self.lengths, self._column("id"), self._column("has_plddt")
        for run in self._runs(np.arange(len(self))):
            columns = (part[run].tolist() for part in (ids, lengths, has_plddt))
            facts: list[RawProtein] = list(zip(*columns, self._dropped_of(run), strict=True))
            yield facts, self._raw(run)

    def verify(self) -> None:
        """Read everything and compare with the fingerprint.

        Raises
        ------
        DataError
            If anything but the counts of dropped things and the provenance has changed.
        """
        digest = Fingerprint()
        names = ("has_plddt", "code", *CLUSTER_LEVELS)
        facts = [self._column(name).tolist() for name in names]
        for id, n, *label in zip(self.ids, self.lengths.tolist(), *facts, strict=True):
            digest.add_protein(id, n, tuple(label))
        for run in self._runs(np.arange(len(self))):
            for name, values in self._raw(run).items():
                digest.add_residues(name, values)
        if digest.hexdigest() != self.fingerprint:
            raise DataError(
                "the content does not fit its checksum",
                where=str(self.path),
                got=digest.hexdigest()[:12],
                expected=self.fingerprint[:12],
                hint="Build the corpus again",
            )

    def info(self) -> dict[str, Any]:
        """Describe the corpus: counts, lengths, labels, what was left out, provenance."""
        lengths, codes = self.lengths, self.codes
        known = codes[codes != ""]
        levels = [len({".".join(code.split(".")[:k]) for code in known.tolist()}) for k in (1, 2, 3, 4)]
        return {
            "file": str(self.path),
            "bytes": self.path.stat().st_size,
            "format_version": int(self.file.attrs["format_version"]),
            "fingerprint": self.fingerprint,
            "proteins": len(self),
            "residues": int(lengths.sum()),
            "length": dict(
                zip(
                    ("min", "median", "max"),
                    map(int, (lengths.min(), np.median(lengths), lengths.max())),
                    strict=True,
                )
            )
            if len(self)
            else {},
            "labelled": len(known),
            "cath": dict(
                zip(("classes", "architectures", "topologies", "superfamilies"), levels, strict=True)
            ),
            "s35_clusters": len(set(self.clusters[self.clusters != ""].tolist())),
            "with_plddt": int(self._column("has_plddt").sum()),
            "dropped": self.dropped(),
            "provenance": self.provenance,
        }
