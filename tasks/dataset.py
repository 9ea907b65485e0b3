"""A benchmark as the training loop sees it: rows that can be used, their labels, the items of each tower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protclip.data.files.vector_file import VectorFile
from protclip.errors import DataError
from protclip.structure.protein import Protein
from protclip.tasks.definitions import CUTOFFS, find_task
from protclip.typing import Bools, Indices

if TYPE_CHECKING:
    from protclip.data.benchmarks.build_benchmark import Benchmark


DEMONSTRATION = "demonstration, no benchmark"


def demonstration_note(fallback: str | None = None) -> str:
    """The words that stand beside every number of the demonstration, with the reason where it is a fallback.

    Examples
    --------
    >>> demonstration_note("no network")
    'demonstration, no benchmark; it takes the place of the benchmark, which could not be fetched: no network'
    """
    if not fallback:
        return DEMONSTRATION
    return f"{DEMONSTRATION}; it takes the place of the benchmark, which could not be fetched: {fallback}"


def version_note(version: str, demonstration: bool) -> str:
    """The version of a benchmark, and whether it is the demonstration.

    Examples
    --------
    >>> version_note("sample", True)
    'sample (demonstration, no benchmark)'
    """
    return f"{version} ({DEMONSTRATION})" if demonstration and DEMONSTRATION not in version else version


class TaskData:
    """A checked benchmark.

    Parameters
    ----------
    benchmark : Benchmark
    towers : sequence of str
        ``structure`` leaves out proteins without any C-alpha, which that tower cannot see.
    vectors : VectorFile, optional
        Stands in for the sequence tower; proteins without a vector are left out.

    Attributes
    ----------
    task : Task
    splits : dict of int64 arrays
        Usable rows of ``train``, ``valid`` and the test sets in the order of the task.
    in_training : dict of int
        By split, where there are such: usable proteins whose sequence a training protein has.
    notices : list of str
        What was left out, and what else a reader of the scores should know.

    Raises
    ------
    DataError
        Unusable: no training or validation protein, fewer than two classes, an id in two splits or
        twice in one, or a number of labels that does not fit the task.
    """

    def __init__(
        self, benchmark: Benchmark, towers: Sequence[str], vectors: VectorFile | None = None
    ) -> None:
        self.benchmark, self.task = benchmark, find_task(benchmark.task)
        self.vectors = vectors
        self.where = str(getattr(benchmark, "path", benchmark.task))
        self.classes: list[str] = list(benchmark.classes)
        self.class_names: list[str] = list(benchmark.class_names)
        self.ids: list[str] = list(benchmark.ids)
        self.notices: list[str] = []
        known = [name for name in self.task.tests if name in benchmark.splits]
        known += [n for n in benchmark.splits if n not in ("train", "valid", *known)]
        self.splits: dict[str, Indices] = {
            name: np.asarray(benchmark.splits.get(name, np.zeros(0)), np.int64)
            for name in ("train", "valid", *known)
        }
        self._check_ids()
        self._leave_out(towers)
        for name in ("train", "valid"):
            if len(self.splits[name]) < (2 if name == "train" else 1):
                raise DataError(
                    f"the split {name!r} is empty" if not len(self.splits[name]) else "too few to train on",
                    where=self.where,
                    got=f"{len(self.splits[name])} usable proteins",
                    hint="Build the benchmark with all of its files; `protclip data info` lists what lacks",
                )
        if len(self.classes) < 2:
            raise DataError("nothing to tell apart", where=self.where, got=f"{len(self.classes)} classes")
        self.labels: Bools = np.asarray(benchmark.labels(np.arange(len(self.ids))).toarray(), np.bool_)
        self._check_labels()
        self.in_training = self._in_training()
        self.notices += [
            f"{count} of {len(self.splits[name])} proteins of {name} have the sequence of a training protein "
            "(the split stays as it is)"
            for name, count in self.in_training.items()
        ]

    @property
    def tests(self) -> list[str]:
        """Names of the test sets."""
        return [name for name in self.splits if name not in ("train", "valid")]

    @property
    def title(self) -> str:
        """Task and version for the heads of outputs; says so where it is the demonstration."""
        return f"{self.task.title}, {version_note(self.benchmark.version, self.demonstration)}"

    @property
    def demonstration(self) -> bool:
        """Whether this is the sample that ships with protclip."""
        return bool(self.benchmark.is_demonstration)

    def targets(self, rows: Indices) -> NDArray[Any]:
        """Class index int64 [n] of a single-label task, bool [n, classes] of a multi-label one."""
        found = self.labels[rows]
        return found.argmax(1) if self.task.kind == "single" else found

    def subsets(self) -> dict[str, Indices]:
        """Identity cut-offs of the test set, those of the published protocol first, usable rows only."""
        usable = set(self.splits.get(self.task.headline, np.zeros(0, np.int64)).tolist())
        names = [c for c in CUTOFFS if c in self.benchmark.subsets]
        return {
            name: np.array([i for i in self.benchmark.subsets[name].tolist() if i in usable], np.int64)
            for name in names
        }

    def items(self, rows: Indices, towers: Sequence[str]) -> dict[str, list[Any]]:
        """Items of ``rows`` for each tower: proteins, sequences, or vectors."""
        found: dict[str, list[Any]] = {}
        for name in towers:
            if name == "structure":
                found[name] = self.benchmark.corpus.proteins(rows)
            elif self.vectors is not None:
                found[name] = list(self.vectors[[self.ids[i] for i in rows]])
            else:
                found[name] = self.benchmark.corpus.sequences(rows)
        return found

    def counts(self) -> dict[str, Any]:
        """Usable, found and published numbers of proteins by split."""
        table: dict[str, Any] = {
            name: {"used": len(rows), "found": len(self.benchmark.splits.get(name, ()))}
            for name, rows in self.splits.items()
        }
        for split, found, published in self.benchmark.counts():
            entry = table.setdefault(str(split), {})
            entry["found"] = int(found)
            if published is not None:
                entry["published"] = int(published)
        return table

    def _check_ids(self) -> None:
        twice = [id for id, n in Counter(self.ids).items() if n > 1]
        if twice:
            raise DataError(
                "ids stand twice in the benchmark",
                where=self.where,
                got=", ".join(twice[:3]),
                expected="once",
            )
        place: dict[int, str] = {}
        for name, rows in self.splits.items():
            for row in rows.tolist():
                if not 0 <= row < len(self.ids):
                    raise DataError(f"the split {name!r} points outside", where=self.where, got=str(row))
                if row in place:
                    raise DataError(
                        "a protein is in two splits, so the test would not be one",
                        where=self.where,
                        got=f"{self.ids[row]} in {place[row]} and {name}",
                    )
                place[row] = name

    def _leave_out(self, towers: Sequence[str]) -> None:
        if "structure" in towers:
            rows = np.concatenate(list(self.splits.values()))
            visible = np.zeros(len(self.ids), np.bool_)
            for block in np.array_split(rows, max(1, len(rows) // 512)):
                proteins: list[Protein] = self.benchmark.corpus.proteins(block)
                visible[block] = [bool(p.has_ca.any()) for p in proteins]
            self._keep(visible, "without any C-alpha")
        if self.vectors is not None and "sequence" in towers:
            known = set(self.vectors.ids)
            self._keep(np.array([id in known for id in self.ids], np.bool_), "without a vector")

    def _keep(self, good: Bools, why: str) -> None:
        for name, rows in self.splits.items():
            if lost := int((~good[rows]).sum()):
                self.notices.append(f"{lost} of {len(rows)} proteins of {name} {why} are left out")
                self.splits[name] = rows[good[rows]]

    def _in_training(self) -> dict[str, int]:
        sequences = self.benchmark.corpus.sequences
        trained = set(sequences(self.splits["train"]))
        found = {
            name: sum(sequence in trained for sequence in sequences(self.splits[name]))
            for name in ("valid", *self.tests)
        }
        return {name: count for name, count in found.items() if count}

    def _check_labels(self) -> None:
        used = np.concatenate(list(self.splits.values()))
        number = self.labels[used].sum(1)
        if self.task.kind == "single" and (number != 1).any():
            first = used[int(np.flatnonzero(number != 1)[0])]
            raise DataError(
                f"{self.task.name} has one class per protein",
                where=f"{self.where}: {self.ids[first]}",
                got=f"{int(self.labels[first].sum())} labels",
                expected="1",
            )
        positives = self.labels[self.splits["train"]].sum(0)
        if not positives.any():
            raise DataError("no training protein has a label", where=self.where)
        if unseen := int((positives == 0).sum()):
            self.notices.append(
                f"{unseen} of {len(self.classes)} classes have no training protein and cannot be learnt"
            )
        for name in ("valid", *self.tests):
            bare = int((self.labels[self.splits[name]].sum(1) == 0).sum())
            if bare and self.task.kind == "multi":
                self.notices.append(f"{bare} proteins of {name} have no label and are not scored")
        if not self.labels[self.splits["valid"]].any():
            raise DataError("no validation protein has a label, so no epoch can be chosen", where=self.where)


def align_labels(labels: Mapping[str, Any], ids: Sequence[str], classes: Sequence[str], kind: str) -> Bools:
    """Labels by id as a matrix bool [n, classes].

    Parameters
    ----------
    labels : mapping
        Id -> class, or list of classes.
    ids, classes : sequence of str
    kind : {"single", "multi"}

    Raises
    ------
    DataError
        If an id has no label, a class is unknown, or a single-label task gets several.

    Examples
    --------
    >>> align_labels({"a": ["x", "y"], "b": []}, ["a", "b"], ["x", "y"], "multi").tolist()
    [[True, True], [False, False]]
    """
    place = {name: i for i, name in enumerate(classes)}
    found = np.zeros((len(ids), len(classes)), np.bool_)
    for i, id in enumerate(ids):
        if id not in labels:
            raise DataError("no label is given", where=id, hint="Give a label for every id")
        given = labels[id]
        names = [given] if isinstance(given, str) else list(given)
        if kind == "single" and len(names) != 1:
            raise DataError("one class per protein", where=id, got=f"{len(names)} labels", expected="1")
        for name in names:
            if name not in place:
                raise DataError(
                    "unknown label", where=id, got=repr(name), expected=f"one of {len(classes)} classes"
                )
            found[i, place[name]] = True
    return found
