"""Writing the file of a benchmark, whole or not at all, after every check that its labels and splits need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protclip import __version__
from protclip.data.benchmarks.benchmark_file import FORMAT_VERSION, GROUP, missing_path
from protclip.data.benchmarks.published import SINGLE_LABEL, check_task
from protclip.data.corpus.cath import CathLabel
from protclip.data.corpus.store import Corpus
from protclip.data.corpus.writer import write_corpus
from protclip.errors import DataError
from protclip.files import atomic_path

if TYPE_CHECKING:
    from protclip.structure.protein import Protein


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
        See :class:`protclip.data.benchmarks.benchmark_file.Benchmark`.
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
