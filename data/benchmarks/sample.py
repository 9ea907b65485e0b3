"""The demonstration benchmarks: the labelled proteins of the small corpus that ships with the package."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from protclip.data.benchmarks.benchmark_file import FORMAT_VERSION
from protclip.data.benchmarks.benchmark_writer import write_benchmark
from protclip.data.benchmarks.published import SINGLE_LABEL, check_task
from protclip.data.benchmarks.sample_names import class_name
from protclip.data.corpus.cath import CathLabel, read_domain_list
from protclip.data.corpus.parse import reader_version
from protclip.errors import DataError
from protclip.files import cache_dir
from protclip.structure.protein import Protein
from protclip.work.locks import file_lock

VERSION = "sample (demonstration, no benchmark)"
FOLDER = Path(__file__).parents[1] / "cath"
LEAST = {"fold": 2, "reaction": 3, "ec": 3, "go-mf": 2, "go-bp": 3, "go-cc": 2}
"""Proteins that a class needs to be shown."""

Labels = dict[str, set[str]]


def sample_benchmark(task: str) -> Path:
    """Benchmark file of the demonstration of a task, built into the cache when it is not there.

    The proteins are the domains of ``data/cath`` that carry a label in ``labels.tsv``, which cites the
    published list of every row.  EC numbers are shown at all their levels (``1.-.-.-`` is any
    oxidoreductase), reactions at the first.  Classes with too few proteins are left out; relatives
    (same S35 cluster, same chain) never stand in training and evaluation at once, where classes allow it.
    It shows that everything works and is no benchmark.

    Raises
    ------
    ConfigError
        If the task is unknown.
    DataError
        If the cache cannot be written.

    Examples
    --------
    >>> from protclip.data.benchmarks.build_benchmark import Benchmark
    >>> with Benchmark.open(sample_benchmark("ec")) as benchmark:
    ...     benchmark.is_demonstration, "1.1.1.-" in benchmark.classes
    (True, True)
    """
    check_task(task)
    key = hashlib.sha256(f"{FORMAT_VERSION} {reader_version()}".encode())
    for path in (FOLDER / "labels.tsv", Path(__file__), Path(__file__).with_name("sample_names.py")):
        key.update(path.read_bytes())
    out = cache_dir() / "benchmarks" / f"sample-{task}-{key.hexdigest()[:12]}.h5"
    with file_lock(out.with_name(out.name + ".lock")):
        if not out.is_file():
            _build(task, out)
    return out


def read_labels(path: str | Path = FOLDER / "labels.tsv") -> dict[str, Labels]:
    """Published labels of the small corpus: task -> domain -> labels.

    Raises
    ------
    DataError
        On a row without a source, a domain with two classes of a single-label task, or an unknown task.

    Examples
    --------
    >>> sorted(read_labels()["ec"]["2ldxA01"])
    ['1.1.1.-', '1.1.1.27']
    """
    found: dict[str, Labels] = defaultdict(dict)
    with Path(path).open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream, delimiter="\t"), 2):
            where = f"{path}:{number}"
            if not all(row.get(name) for name in ("domain", "task", "label", "source")):
                raise DataError("a label without its source", where=where, got=str(row)[:80])
            check_task(row["task"])
            labels = found[row["task"]].setdefault(row["domain"], set())
            labels.add(row["label"])
            if row["task"] in SINGLE_LABEL and len(labels) > 1:
                raise DataError(
                    "two classes in a single-label task", where=where, got=", ".join(sorted(labels))
                )
    return dict(found)


def _build(task: str, out: Path) -> None:
    from protclip.structure.reading.read import read_structure  # lazy: gemmi stands behind it

    cath = read_domain_list(FOLDER / "cath-domain-list.txt")
    labels = read_labels()[task]
    if task == "ec":
        labels = {id: {level for ec in names for level in ec_levels(ec)} for id, names in labels.items()}
    group = _groups(labels, cath)
    labels = _frequent(labels, group, LEAST[task])
    splits = _fold_splits(labels, cath, group) if task == "fold" else _splits(labels, group)
    classes = sorted({name for names in labels.values() for name in names}, key=_natural)
    index = {name: i for i, name in enumerate(classes)}

    def proteins() -> Iterator[Protein]:
        for id in sorted(labels):
            yield read_structure(FOLDER / "dompdb" / id, id=id)

    write_benchmark(
        out,
        task=task,
        version=VERSION,
        proteins=proteins(),
        classes=classes,
        class_names=[class_name(task, name) for name in classes],
        labels={id: sorted(index[name] for name in names) for id, names in labels.items()},
        splits=splits,
        demonstration=True,
        cath=cath,
        provenance={
            "sources": "labels.tsv beside the shipped corpus cites the published list of every label"
        },
    )


def ec_levels(ec: str) -> list[str]:
    """An EC number and the classes above it.

    Examples
    --------
    >>> ec_levels("1.1.1.27")
    ['1.-.-.-', '1.1.-.-', '1.1.1.-', '1.1.1.27']
    """
    parts = [part for part in ec.split(".") if part != "-"]
    return [".".join(parts[:k] + ["-"] * (4 - k)) for k in range(1, len(parts) + 1)]


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part) if part.isdigit() else -1, part) for part in name.replace(":", ".").split("."))


def _groups(labels: Labels, cath: Mapping[str, CathLabel]) -> dict[str, str]:
    """Domain -> first domain of its group; relatives are domains of one S35 cluster or one chain."""
    leader: dict[str, str] = {id: id for id in labels}

    def find(id: str) -> str:
        while leader[id] != id:
            id = leader[id]
        return id

    first: dict[str, str] = {}
    for id in sorted(labels):
        for key in (id[:5], cath[id].cluster):
            a, b = find(id), find(first.setdefault(key, id))
            leader[max(a, b)] = min(a, b)
    return {id: find(id) for id in labels}


def _frequent(labels: Labels, group: Mapping[str, str], least: int) -> Labels:
    """Only classes of enough proteins in at least two groups, and only proteins of such a class."""
    count: Counter[str] = Counter(name for names in labels.values() for name in names)
    groups: dict[str, set[str]] = defaultdict(set)
    for id, names in labels.items():
        for name in names:
            groups[name].add(group[id])
    kept = {name for name, n in count.items() if n >= least and len(groups[name]) > 1}
    return {id: names & kept for id, names in labels.items() if names & kept}


def _splits(labels: Labels, group: Mapping[str, str]) -> dict[str, list[str]]:
    """Whole groups for test and validation, as long as every class keeps a training protein."""
    members: dict[str, list[str]] = defaultdict(list)
    for id in sorted(labels):
        members[group[id]].append(id)
    names = {g: {name for id in ids for name in labels[id]} for g, ids in members.items()}
    training = Counter(name for g in members for name in names[g])
    taken: dict[str, list[str]] = {"test": [], "valid": []}
    covered: dict[str, set[str]] = {"test": set(), "valid": set()}
    wanted = {split: max(1, round(share * len(labels))) for split, share in (("test", 0.25), ("valid", 0.2))}
    while open_ := [split for split in taken if len(taken[split]) < wanted[split]]:
        split = min(open_, key=lambda name: len(taken[name]))
        free = [
            g
            for g, ids in members.items()
            if 3 * len(ids) <= len(labels) and all(training[n] > 1 for n in names[g])
        ]
        if not free:
            break
        # New classes first, then small groups.
        best = min(free, key=lambda g: (-len(names[g] - covered[split]), len(members[g]), g))
        covered[split] |= names[best]
        training.subtract(names[best])
        taken[split] += members.pop(best)
    training_ids = [id for ids in members.values() for id in ids]
    return {"train": training_ids, "valid": taken["valid"], "test": taken["test"]}


def _fold_splits(
    labels: Labels, cath: Mapping[str, CathLabel], group: Mapping[str, str]
) -> dict[str, list[str]]:
    """Three test sets in the sense of the fold benchmark, as far as so few domains allow.

    ``test_family`` has a relative in training, ``test_superfamily`` only a member of its superfamily,
    ``test_fold`` only the fold.
    """
    splits: dict[str, list[str]] = {
        name: [] for name in ("train", "valid", "test_fold", "test_superfamily", "test_family")
    }
    turn = 0
    for name in sorted({name for names in labels.values() for name in names}, key=_natural):
        members = sorted(id for id, names in labels.items() if name in names)
        by_code: dict[str, list[str]] = defaultdict(list)
        for id in members:
            by_code[cath[id].code].append(id)
        largest = max(by_code, key=lambda code: (len(by_code[code]), code))
        splits["test_fold"] += [id for code, ids in by_code.items() if code != largest for id in ids]
        by_group: dict[str, list[str]] = defaultdict(list)
        for id in by_code[largest]:
            by_group[group[id]].append(id)
        train, *others = sorted(by_group.values(), key=lambda ids: (-len(ids), ids[0]))
        if len(train) > 1:
            splits["test_family"].append(train.pop())
        splits["train"] += train
        for ids in others:
            splits[("valid", "test_superfamily")[turn % 2]] += ids
            turn += 1
    return splits
