"""A benchmark in one HDF5 file: a corpus of proteins, and beside it labels, splits and what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip import __version__
from protclip.atomic import atomic_path
from protclip.data.cath import CathLabel
from protclip.data.h5 import LazyH5
from protclip.data.published import SINGLE_LABEL, check_task
from protclip.data.store import Corpus
from protclip.data.writer import write_corpus
from protclip.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from protclip.structure.protein import Protein

GROUP = "benchmark"
FORMAT_VERSION = 1
DEMONSTRATION = "demonstration on a few real proteins, no benchmark: not comparable with any published number"


class SplitCount(NamedTuple):
    """Proteins of a split that are in the file, and how many were published (None where nobody knows)."""

    split: str
    found: int
    expected: int | None


class Benchmark(LazyH5):
    """A benchmark file.

    The same file is a corpus: :attr:`corpus` gives its proteins, in the order of :attr:`ids`.  The object can
    be pickled and used after a fork.

    Attributes
    ----------
    task : str
        ``fold``, ``reaction``, ``go-mf``, ``go-bp``, ``go-cc`` or ``ec``.
    version : str
        Which of the circulating versions this is; belongs beside every number.
    is_demonstration : bool
        True for the sample that ships with the package.
    classes, class_names : list of str
        Ids of the C classes, and what they are called (empty where that is unknown).
    corpus : Corpus
    splits : dict of str to int64 array
        Rows of ``train``, ``valid`` and the test sets.
    subsets : dict of str to int64 array
        Rows of ``test`` below an identity of 30, 40, 50, 70, 95 percent to all training chains (EC and GO).
    missing : list of (id, reason)
        Listed chains that are not in the file.

    Examples
    --------
    >>> import tempfile
    >>> from protclip.structure.protein import Protein
    >>> ca = np.array([[0, 0, 0], [3.8, 0, 0]])
    >>> file = write_benchmark(
    ...     Path(tempfile.mkdtemp()) / "ec.h5", task="ec", version="tiny",
    ...     proteins=[Protein.from_ca(id, "GA", ca) for id in "abc"], classes=["1.1.1.-", "3.4.21.-"],
    ...     labels={"a": [0], "b": [0, 1], "c": []}, splits={"train": ["a"], "valid": ["b"], "test": ["c"]})
    >>> with Benchmark.open(file) as benchmark:
    ...     benchmark.ids, benchmark.splits["test"].tolist(), benchmark.labels([1, 0]).toarray().tolist()
    (['a', 'b', 'c'], [2], [[True, True], [True, False]])
    """

    what = "benchmark file"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.corpus = Corpus(path)
        self._cache: dict[str, Any] = {}

    @classmethod
    def open(cls, path: str | Path) -> Benchmark:
        """Open a benchmark file and check that it is whole.

        Raises
        ------
        DataError
            If the file is missing, damaged, a corpus without labels, or of a newer format.
        """
        benchmark = cls(path)
        benchmark._check()
        return benchmark

    def _missing_hint(self) -> str:
        return "`protclip data download` and `protclip data build TASK` make one"

    def _check(self) -> None:
        with self._damage():
            if GROUP not in self.file:
                raise DataError(
                    "not a benchmark file",
                    where=str(self.path),
                    got="a corpus without labels" if "offset" in self.file else "some other HDF5 file",
                    expected="a file made by `protclip data build TASK`",
                )
            version = int(self.file[GROUP].attrs["format_version"])
        if version > FORMAT_VERSION:
            raise DataError(
                "benchmark written by a newer protclip",
                where=str(self.path),
                got=f"format_version {version}",
                expected=f"at most {FORMAT_VERSION}",
                hint="Update protclip or build the benchmark again",
            )
        self.corpus._check()
        with self._damage():
            check_task(self.task)
            n = len(self.corpus)
            indptr, indices = self._array("label_indptr"), self._array("label_indices")
            if (
                len(indptr) != n + 1
                or indptr[0] != 0
                or indptr[-1] != len(indices)
                or (np.diff(indptr) < 0).any()
            ):
                raise ValueError("label offsets that do not fit the proteins")
            if len(indices) and (indices.min() < 0 or indices.max() >= len(self.classes)):
                raise ValueError("labels beyond the classes")
            for name, rows in (*self.splits.items(), *self.subsets.items()):
                if len(rows) and (rows.min() < 0 or rows.max() >= n):
                    raise ValueError(f"rows of {name} beyond the proteins")

    def _attr(self, name: str) -> Any:
        with self._damage():
            return self.file[GROUP].attrs[name]

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._cache:
            with self._damage():
                self._cache[name] = self.file[f"{GROUP}/{name}"][()]
        found: NDArray[Any] = self._cache[name]
        return found

    def _text(self, name: str) -> list[str]:
        with self._damage():
            return [entry.decode("utf-8") for entry in self._array(name).tolist()]

    def _rows(self, group: str) -> dict[str, NDArray[np.int64]]:
        with self._damage():
            names = json.loads(str(self.file[GROUP].attrs[f"{group}_names"]))
            return {name: self._array(f"{group}/{name}").astype(np.int64) for name in names}

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self._attr("task"))

    @property
    def version(self) -> str:
        """Which of the circulating versions this is."""
        return str(self._attr("version"))

    @property
    def is_demonstration(self) -> bool:
        """Whether this is the sample that ships with the package."""
        return bool(self._attr("demonstration"))

    @property
    def classes(self) -> list[str]:
        """Ids of the C classes."""
        return self._text("classes")

    @property
    def class_names(self) -> list[str]:
        """Names of the C classes, empty where unknown."""
        return self._text("class_names")

    @property
    def ids(self) -> list[str]:
        """Protein ids in corpus order."""
        return self.corpus.ids

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def splits(self) -> dict[str, NDArray[np.int64]]:
        """Rows of each split."""
        return self._rows("split")

    @property
    def subsets(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the test set at each identity cut-off."""
        return self._rows("subset")

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Listed chains that could not be built, with the reason."""
        return list(zip(self._text("missing_id"), self._text("missing_reason"), strict=True))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of proteins, labels and splits."""
        return str(self._attr("fingerprint"))

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin and settings as written by the builder."""
        found: dict[str, Any] = json.loads(str(self._attr("provenance")))
        return found

    def labels(self, rows: ArrayLike | None = None) -> csr_matrix:
        """Labels of some or all proteins, in the order asked for.

        Parameters
        ----------
        rows : int array [n], optional

        Returns
        -------
        scipy.sparse.csr_matrix of bool [n, C]
            Exactly one entry in each row of a single-label task.
        """
        from scipy.sparse import csr_matrix  # lazy: only for people who train

        indices, indptr = self._array("label_indices"), self._array("label_indptr")
        values = np.ones(len(indices), np.bool_)
        whole = csr_matrix((values, indices, indptr), shape=(len(self), len(self.classes)))
        return whole if rows is None else whole[np.asarray(rows, np.int64)]

    def counts(self) -> list[SplitCount]:
        """Proteins found of each split, and of each identity cut-off, beside the published number."""
        expected = json.loads(str(self._attr("expected")))
        rows = [SplitCount(name, len(found), expected.get(name)) for name, found in self.splits.items()]
        rows += [
            SplitCount(f"test <{cut}%", len(found), expected.get(f"test <{cut}%"))
            for cut, found in self.subsets.items()
        ]
        return rows

    def info(self) -> dict[str, Any]:
        """Describe the benchmark: version, counts, what is missing, and the corpus inside."""
        missing = self.missing
        per_class = np.diff(self.labels().tocsc().indptr)
        return {
            "task": self.task,
            "version": self.version,
            **({"note": DEMONSTRATION} if self.is_demonstration else {}),
            "classes": len(self.classes),
            "classes_without_protein": int((per_class == 0).sum()),
            "labels": int(per_class.sum()),
            "found/expected": {
                name: f"{found}/{'?' if expected is None else expected}"
                for name, found, expected in self.counts()
            },
            "missing": len(missing),
            "first_missing": " - ".join(missing[0]) if missing else "",
            "benchmark_fingerprint": self.fingerprint,
            **self.corpus.info(),
        }

    def close(self) -> None:
        """Close the handles of this process; the next read opens them again."""
        super().close()
        self.corpus.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cache": {}}


def missing_path(out: Path) -> Path:
    """Where the list of chains that are missing from a benchmark stands."""
    return out.with_name(out.name + ".missing.tsv")


def is_benchmark(path: str | Path) -> bool:
    """Whether a file is a benchmark (and not a corpus alone)."""
    try:
        with Benchmark(path) as benchmark:
            return GROUP in benchmark.file
    except DataError:
        return False


def write_benchmark(
    path: str | Path,
    *,
    task: str,
    version: str,
    proteins: Iterable[Protein],
    classes: Sequence[str],
    labels: Mapping[str, Sequence[int]],
    splits: Mapping[str, Sequence[str]],
    subsets: Mapping[str, Sequence[str]] | None = None,
    class_names: Sequence[str] | None = None,
    expected: Mapping[str, int] | None = None,
    missing: Iterable[tuple[str, str]] = (),
    demonstration: bool = False,
    cath: Mapping[str, CathLabel] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a benchmark file, atomically, and the list of missing chains beside it.

    Parameters
    ----------
    path
        File to write; ``<path>.missing.tsv`` is written if anything is missing.
    task, version
        See :class:`Benchmark`.
    proteins
        The proteins, streamed into the corpus.
    classes, class_names
        Ids and names of the C classes.
    labels
        Class indices by protein id.  Ids without a protein are ignored.
    splits
        Protein ids of ``train``, ``valid`` and at least one test set.  Ids without a protein are left out.
    subsets
        Protein ids of the test set at each identity cut-off.
    expected
        Published number of proteins of each split and of ``test <30%`` and so on.
    missing
        Listed ids that could not be built, with the reason.
    demonstration
        Whether every output has to say that this is no benchmark.
    cath
        CATH labels by protein id.
    provenance
        JSON-able facts about origin and settings.

    Raises
    ------
    DataError
        If a split is empty, an id stands in two splits or twice in one, a class index is out of range, a
        protein of a single-label task has not exactly one class, a class id occurs twice, or the file
        cannot be written.
    """
    import h5py  # lazy: not needed to show a help text

    path, missing = Path(path), [(id, " ".join(reason.split())) for id, reason in missing]
    check_task(task)
    names = list(class_names) if class_names is not None else [""] * len(classes)
    _check_classes(path, classes, names)
    facts = dict(provenance or {}, protclip=__version__)
    with atomic_path(path) as temporary:
        write_corpus(temporary, proteins, cath, facts)
        with Corpus.open(temporary) as corpus:
            ids, content = corpus.ids, corpus.fingerprint
        row = {id: i for i, id in enumerate(ids)}
        found = {name: _row_numbers(path, name, split, row) for name, split in splits.items()}
        _check_splits(path, found, ids, missing)
        tested = set(found["test"].tolist()) if "test" in found else set()
        cuts = {name: _row_numbers(path, name, cut, row) for name, cut in (subsets or {}).items()}
        for name, rows in cuts.items():
            if not set(rows.tolist()) <= tested:
                raise DataError(
                    "an identity cut-off holds chains beyond the test set", where=f"{path}: <{name}%"
                )
        label_rows = [_label_row(path, task, id, labels, len(classes)) for id in ids]
        indptr = np.concatenate([[0], np.cumsum([len(r) for r in label_rows])]).astype(np.int64)
        indices = np.concatenate([*label_rows, np.zeros(0, np.int32)]).astype(np.int32)
        digest = hashlib.sha256(content.encode() + repr((task, list(classes))).encode())
        digest.update(indptr.tobytes() + indices.tobytes())
        digest.update(repr([(k, v.tolist()) for k, v in (*found.items(), *cuts.items())]).encode())
        with h5py.File(temporary, "r+", libver=("v110", "v110"), locking=False) as file:
            group = file.create_group(GROUP)
            for name, texts in (("classes", list(classes)), ("class_names", names)):
                _write(group, name, _bytes(texts))
            _write(group, "label_indptr", indptr)
            _write(group, "label_indices", indices)
            for kind, table in (("split", found), ("subset", cuts)):
                for name, rows in table.items():
                    _write(group, f"{kind}/{name}", rows)
                group.attrs[f"{kind}_names"] = json.dumps(list(table))
            _write(group, "missing_id", _bytes([id for id, _ in missing]))
            _write(group, "missing_reason", _bytes([reason for _, reason in missing]))
            group.attrs.update(
                format_version=FORMAT_VERSION,
                task=task,
                version=version,
                demonstration=demonstration,
                expected=json.dumps(dict(expected or {})),
                provenance=json.dumps(facts, sort_keys=True),
                fingerprint=digest.hexdigest(),
            )
    _list_missing(path, missing)
    return path


def _bytes(texts: Sequence[str]) -> NDArray[np.bytes_]:
    encoded = [text.encode("utf-8") for text in texts]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def _write(group: Any, name: str, values: NDArray[Any]) -> None:
    checked = {"chunks": (min(len(values), 65536),), "fletcher32": True} if len(values) else {}
    group.create_dataset(name, data=values, track_times=False, **checked)


def _check_classes(path: Path, classes: Sequence[str], names: Sequence[str]) -> None:
    if not classes:
        raise DataError("no classes", where=str(path), got="0", expected="at least 1")
    if len(set(classes)) != len(classes):
        twice = next(c for c in classes if list(classes).count(c) > 1)
        raise DataError("a class twice", where=str(path), got=twice, expected="unique class ids")
    if len(names) != len(classes):
        raise DataError(
            "class names do not fit the classes",
            where=str(path),
            got=str(len(names)),
            expected=str(len(classes)),
        )


def _row_numbers(path: Path, name: str, ids: Sequence[str], row: Mapping[str, int]) -> NDArray[np.int64]:
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if list(ids).count(id) > 1)
        raise DataError("an id twice in one split", where=f"{path}: {name}", got=twice)
    return np.array(sorted(row[id] for id in ids if id in row), np.int64)


def _check_splits(
    path: Path,
    found: Mapping[str, NDArray[np.int64]],
    ids: Sequence[str],
    missing: Sequence[tuple[str, str]],
) -> None:
    tests = [name for name in found if name not in ("train", "valid")]
    for name in ("train", "valid", *(tests or ["test"])):
        if len(found.get(name, ())) == 0:
            reason = (
                f"; {len(missing)} chains missing, first {missing[0][0]}: {missing[0][1]}" if missing else ""
            )
            raise DataError(
                f"the split {name!r} is empty",
                where=str(path),
                got=f"0 proteins{reason}",
                expected="at least 1",
                hint="Give the structures of all splits, and the list of every split",
            )
    owner: dict[int, str] = {}
    for name, rows in found.items():
        for i in rows.tolist():
            if owner.setdefault(i, name) != name:
                raise DataError(
                    "an id in two splits", where=str(path), got=f"{ids[i]} in {owner[i]} and {name}"
                )
    unused = [id for i, id in enumerate(ids) if i not in owner]
    if unused:
        raise DataError("a protein in no split", where=str(path), got=f"{unused[0]} ({len(unused)} in all)")


def _label_row(
    path: Path, task: str, id: str, labels: Mapping[str, Sequence[int]], n_classes: int
) -> NDArray[np.int32]:
    if id not in labels:
        raise DataError("a protein without labels", where=str(path), got=id)
    row = np.array(sorted(set(labels[id])), np.int32)
    if len(row) and (row[0] < 0 or row[-1] >= n_classes):
        raise DataError(
            "no such class",
            where=f"{path}: {id}",
            got=str(row[-1] if row[0] >= 0 else row[0]),
            expected=f"0 to {n_classes - 1}",
        )
    if task in SINGLE_LABEL and len(row) != 1:
        raise DataError(
            f"{task} takes exactly one class for each protein", where=f"{path}: {id}", got=f"{len(row)}"
        )
    return row


def _list_missing(path: Path, missing: Sequence[tuple[str, str]]) -> None:
    target = missing_path(path)
    if not missing:
        target.unlink(missing_ok=True)
        return
    with atomic_path(target) as temporary:
        lines = ["id\treason", *("\t".join(entry) for entry in missing)]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
