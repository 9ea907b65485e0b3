"""Benchmarks of the downstream tasks: open them, build them from published lists and structures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protclip.data.benchmarks.benchmark_file import (
    DEMONSTRATION,
    Benchmark,
    SplitCount,
    is_benchmark,
    missing_path,
)
from protclip.data.benchmarks.benchmark_writer import write_benchmark
from protclip.data.benchmarks.chain_files import find_chains, names_chain
from protclip.data.benchmarks.deepfri import is_torchdrug, read_deepfri, read_torchdrug
from protclip.data.benchmarks.fold import find_domains, read_homologytape, read_merged
from protclip.data.benchmarks.listing import BenchmarkLists
from protclip.data.benchmarks.published import check_task
from protclip.data.benchmarks.reaction import read_protfunct
from protclip.data.benchmarks.sample import sample_benchmark
from protclip.data.corpus.build import parse_items
from protclip.data.corpus.parse import Failure, Item, ReadSettings, reader_version
from protclip.data.corpus.store import Corpus
from protclip.data.files.unzip import extract_zip
from protclip.errors import DataError, ProtclipError
from protclip.files import cache_dir
from protclip.work.fingerprint import file_digest
from protclip.work.locks import file_lock
from protclip.work.unfinished import Unfinished

if TYPE_CHECKING:
    from protclip.structure.protein import Protein

__all__ = [
    "DEMONSTRATION",
    "Benchmark",
    "BenchmarkReport",
    "SplitCount",
    "build_benchmark",
    "default_path",
    "is_benchmark",
    "read_lists",
    "sample_benchmark",
    "write_benchmark",
]


def default_path(task: str) -> Path:
    """Where ``protclip data build TASK`` puts a benchmark, and ``protclip finetune TASK`` looks for it."""
    return cache_dir() / "benchmarks" / f"{task}.h5"


@dataclass(frozen=True)
class BenchmarkReport:
    """What came of :func:`build_benchmark`; ``print(report)`` gives it in words.

    Attributes
    ----------
    out : Path
        The benchmark file.
    task, version : str
    counts : tuple of SplitCount
        Proteins found of each split and cut-off, beside the published number.
    missing : int
        Listed chains that are not in the file; ``<out>.missing.tsv`` names them with the reason.
    first_missing : str
        The first of them.
    """

    out: Path
    task: str
    version: str
    counts: tuple[SplitCount, ...]
    missing: int
    first_missing: str = ""

    def __str__(self) -> str:
        lines = [f"{self.task}: {self.version}, in {self.out}"]
        for split, found, expected in self.counts:
            lines.append(
                f"  {split}: {found}" + (f" of {expected} published" if expected is not None else "")
            )
        if self.missing:
            lines.append(
                f"{self.missing} listed chains are missing, see {missing_path(self.out)}; "
                f"first: {self.first_missing}"
            )
        return "\n".join(lines)


def read_lists(task: str, folder: str | Path) -> BenchmarkLists:
    """Read the published lists of a task, without structures.

    Raises
    ------
    DataError
        If a list is missing or malformed.
    ConfigError
        If the task is unknown.
    """
    check_task(task)
    if task == "fold":
        return read_homologytape(folder)
    return read_protfunct(folder) if task == "reaction" else read_deepfri(folder, task)


def build_benchmark(
    task: str,
    out: str | Path | None = None,
    *,
    lists: str | Path | None = None,
    structures: str | Path | None = None,
    archive: str | Path | None = None,
    work: str | Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> BenchmarkReport:
    """Build the benchmark file of a task from published lists and a folder of structures.

    Parsing runs in parallel and can be interrupted: the same call goes on where it stopped.  What cannot be
    built is listed with its reason in the file and in ``<out>.missing.tsv``.

    Parameters
    ----------
    task
        ``fold``, ``reaction``, ``go-mf``, ``go-bp``, ``go-cc`` or ``ec``.
    out
        File to write; in the cache, where ``protclip finetune`` looks, by default.
    lists
        Folder of the HomologyTAPE, ProtFunct or DeepFRI lists.
    structures
        Folder of SCOP domain files (fold) or of structure files by chain or entry; or an unpacked
        torchdrug archive, which has lists of its own.
    archive
        A torchdrug archive (``EnzymeCommission.zip``, ``GeneOntology.zip``) instead of both.
    work
        Folder of unfinished work, kept afterwards: tasks of the same chains (the three of GO) share what
        was unpacked and parsed.  By default ``<out>.partial``, removed at the end.
    workers, progress
        As in :func:`protclip.data.corpus.build.build_corpus`.

    Raises
    ------
    DataError
        If lists or structures are missing or malformed, or a split comes out empty.
    ConfigError
        If the task is unknown.
    """
    check_task(task)
    out = Path(out) if out is not None else default_path(task)
    if workers is not None and workers < 1:
        raise DataError(
            "number of workers out of range", where="--workers", got=str(workers), expected=">= 1"
        )
    with ExitStack() as stack:
        stack.enter_context(file_lock(out.with_name(out.name + ".lock")))
        if work is not None:
            partial = Path(work)
        else:
            # Pieces are known by the files that they were read from, whatever the task.
            own = Unfinished(out, {"kind of output": "benchmark"}, ending=".partial")
            partial = stack.enter_context(own).folder
        facts: dict[str, object] = {}
        if archive is not None:
            if task in ("fold", "reaction") or lists is not None or structures is not None:
                raise DataError(
                    "an archive takes the place of lists and structures, for EC and GO",
                    where="--archive",
                    got=f"{task} with {archive}",
                )
            path = Path(archive)
            if not path.is_file():
                raise DataError("no such file", where=f"--archive {path}")
            facts["archive"] = {
                "file": path.name,
                "sha256": file_digest(path),
                "md5": file_digest(path, "md5"),
            }
            structures = partial / f"unpacked-{facts['archive']['sha256'][:16]}"  # type: ignore[index]
            if not structures.is_dir():
                extract_zip(path, structures)
        found, items, missing = _collect(task, lists, structures)
        return _write(found, items, missing, out, partial, facts, workers, progress)


def _collect(
    task: str, lists: str | Path | None, structures: str | Path | None
) -> tuple[BenchmarkLists, list[Item], list[tuple[str, str]]]:
    """Lists, files to read, and chains without a file."""
    if structures is None:
        raise DataError(
            "no structures given",
            where=task,
            expected="--structures DIR, or --archive ZIP for EC and GO",
            hint=f"`protclip data download {task.split('-')[0]}` says where they come from",
        )
    if lists is None and task not in ("fold", "reaction") and is_torchdrug(structures):
        return read_torchdrug(structures, task)
    found = read_lists(task, lists if lists is not None else structures)
    items, missing = (find_domains if task == "fold" else find_chains)(structures, found.ids)
    return found, items, missing


def _write(
    lists: BenchmarkLists,
    items: list[Item],
    missing: list[tuple[str, str]],
    out: Path,
    partial: Path,
    facts: dict[str, object],
    workers: int | None,
    progress: bool,
) -> BenchmarkReport:
    settings = ReadSettings()
    shards, _ = parse_items(items, partial, settings, workers, progress)
    chain_of = {item.id: item for item in items}
    failures = [failure for shard in shards for failure in _failures(shard)]
    # A file of one chain may name it otherwise than its own file name does, or not at all.
    again = [
        chain_of[failure.id]._replace(chain=None)
        for failure in failures
        if names_chain(failure.path) and "no such protein chain" in failure.reason
    ]
    second, _ = parse_items(again, partial / "second", settings, workers) if again else ([], 0)
    rescued = {id for shard in second for id in _ids(shard)}
    merged: dict[str, Protein] = {}
    for failure in failures:
        if lists.task == "fold" and "several protein chains" in failure.reason:
            try:
                merged[failure.id] = read_merged(failure.path, failure.id)
            except ProtclipError as error:
                missing.append((failure.id, str(error)))
        elif failure.id not in rescued:
            missing.append((failure.id, failure.reason))

    def proteins() -> Iterator[Protein]:
        for shard in (*shards, *second):
            with Corpus(shard) as part:
                yield from part
        yield from merged.values()

    order = {id: i for i, id in enumerate(lists.ids)}
    missing.sort(key=lambda entry: order.get(entry[0], len(order)))
    write_benchmark(
        out,
        task=lists.task,
        version=lists.version,
        proteins=proteins(),
        classes=lists.classes,
        class_names=lists.class_names,
        labels=lists.labels,
        splits=lists.splits,
        subsets=lists.subsets,
        expected=lists.expected,
        missing=missing,
        provenance={
            **facts,
            "lists": [
                {"file": path.name, "sha256": file_digest(path)} for path in lists.files if path.is_file()
            ],
            "listed": {name: len(ids) for name, ids in lists.splits.items()},
            "reader": asdict(settings),
            "reader_version": reader_version(),
        },
    )
    with Benchmark.open(out) as benchmark:
        return BenchmarkReport(
            out,
            lists.task,
            lists.version,
            tuple(benchmark.counts()),
            len(missing),
            ": ".join(missing[0]) if missing else "",
        )


def _failures(shard: Path) -> Sequence[Failure]:
    with Corpus(shard) as part:
        return [Failure(*failure) for failure in part.provenance["failures"]]


def _ids(shard: Path) -> list[str]:
    with Corpus(shard) as part:
        return part.ids
