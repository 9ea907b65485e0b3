"""A benchmark in one HDF5 file: a corpus of proteins, and beside it labels, splits and what is missing.

:mod:`protclip.data.benchmarks.benchmark_writer` writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip.data.benchmarks.published import check_task
from protclip.data.corpus.store import Corpus
from protclip.data.files.h5 import LazyH5
from protclip.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

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
    >>> from protclip.data.benchmarks.benchmark_writer import write_benchmark
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

    def __repr__(self) -> str:
        note = ", a demonstration" if self.is_demonstration else ""
        counts = f"{len(self.ids)} proteins, {len(self.classes)} classes"
        return f"Benchmark({str(self.path)!r}, {self.task}, {counts}{note})"

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
