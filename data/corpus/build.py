"""Building a corpus file from a folder of structures: parallel, interruptible, resumable."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from protclip import __version__
from protclip.data.corpus.cath import CathFolder, find_cath, read_domain_list
from protclip.data.corpus.parse import (
    UNEXPECTED,
    Failure,
    Item,
    ReadSettings,
    Work,
    make_items,
    reader_version,
    run_chunks,
    stamp,
)
from protclip.data.corpus.store import Corpus, CorpusWriter
from protclip.errors import DataError
from protclip.files import cache_dir as default_cache_dir
from protclip.typing import Done, Say
from protclip.work.locks import claim, file_lock
from protclip.work.outputs import check_output, failed_path, list_failures
from protclip.work.unfinished import Unfinished

CHUNK_FILES = 32
"""Files parsed between two shards, the most work that a kill can cost each worker, in a small folder."""

LARGEST_CHUNK = 256
"""The same in a large folder, where opening and closing many shards would take a sixth of the time."""

PARALLEL_FROM = 512
"""Files from which starting worker processes pays."""


@dataclass(frozen=True)
class BuildReport:
    """What came of :func:`build_corpus`; ``print(report)`` gives it in words.

    Attributes
    ----------
    out : Path
        The corpus file.
    built, residues : int
        Proteins and residues in it.
    failed : int
        Files that gave no protein; ``<out>.failed.tsv`` lists them with the reason.
    first_failure : str
        The first of them, with its reason.
    dropped : dict of str to int
        What reading left out or changed, by kind, over all proteins.
    unlabelled : int
        Proteins without a CATH code.
    resumed : int
        Proteins taken over from an interrupted run.
    notices : tuple of str
        Remarks about the folder and its lists.
    """

    out: Path
    built: int
    residues: int
    failed: int = 0
    first_failure: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    resumed: int = 0
    notices: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.built} proteins, {self.residues} residues in {self.out}", *self.notices]
        if self.resumed:
            lines.append(f"{self.resumed} of them taken over from an interrupted run")
        if self.unlabelled:
            lines.append(f"{self.unlabelled} without a CATH code")
        if self.failed:
            lines.append(
                f"{self.failed} files failed, see {failed_path(self.out)}; first: {self.first_failure}"
            )
        if self.dropped:
            lines.append(
                "left out while reading: "
                + ", ".join(f"{n} {kind}" for kind, n in sorted(self.dropped.items()))
            )
        return "\n".join(lines)


def sample_corpus_dir() -> Path:
    """Folder of the small CATH corpus that ships with the package.

    Examples
    --------
    >>> (sample_corpus_dir() / "cath-domain-list.txt").is_file()
    True
    """
    return Path(__file__).parents[1] / "cath"


def build_corpus(
    cath: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    progress: bool = False,
    min_plddt: float | None = None,
    altloc: Literal["occupancy", "first"] = "occupancy",
    boundaries: str | Path | None = None,
    domain_list: str | Path | None = None,
) -> BuildReport:
    """Parse every structure of a CATH folder into one corpus file, ordered by id.

    Finished chunks are kept in ``<out>.partial/``; after an interruption the same call takes them up.
    The corpus appears under its name only when it is whole. Files that cannot be read are counted,
    listed in ``<out>.failed.tsv`` and left out.

    Parameters
    ----------
    cath
        Folder as :func:`protclip.data.corpus.cath.find_cath` takes it.
    out
        Corpus file to write.
    workers
        Processes; 1 works in this one. None: one per available core, or 1 for a small folder. A script
        that asks for more than one needs the usual ``if __name__ == "__main__":``.
    progress
        Show a bar on stderr.
    min_plddt, altloc
        Passed to :func:`protclip.structure.reading.read.read_structure`.
    boundaries, domain_list
        Passed to :func:`protclip.data.corpus.cath.find_cath`.

    Raises
    ------
    DataError
        If the folder or a list is unusable, no file gives a protein, `out` cannot be written, or another
        process is writing it.
    ConfigError
        If `out` is an input.

    Examples
    --------
    >>> import shutil, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = shutil.copy(sample_corpus_dir() / "dompdb" / "1lcdA00", folder)
    >>> report = build_corpus(folder, folder / "corpus.h5")
    >>> report.built, report.residues, report.unlabelled
    (1, 51, 1)
    """
    settings = ReadSettings(altloc, min_plddt)
    folder = find_cath(cath, boundaries=boundaries, domain_list=domain_list)
    out = Path(out)
    if workers is not None and workers < 1:
        raise DataError(
            "number of workers out of range", where="--workers", got=str(workers), expected="at least 1"
        )
    check_output(out, inputs=[cath, *(p for p in (boundaries, domain_list) if p is not None)], inside=True)
    with claim(out):
        return _build(folder, make_items(folder), out, settings, workers, progress)


def cached_corpus(
    cath: str | Path,
    cache_dir: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: bool = False,
    min_plddt: float | None = None,
    altloc: Literal["occupancy", "first"] = "occupancy",
    say: Say | None = None,
) -> Path:
    """Corpus file of a CATH folder in the cache, built when there is none or the folder has changed.

    The name depends on the folder's path, every file's name, size and times (that of the last change among
    them, which no program can set back), the domain list, the settings and the reader's code. Several
    processes may ask at once: one builds.

    Parameters
    ----------
    cath, workers, progress, min_plddt, altloc
        As in :func:`build_corpus`.
    cache_dir
        Cache folder; :func:`protclip.files.cache_dir` by default.
    say
        Called with the report in words: what was built, what failed and what was left out.

    Raises
    ------
    DataError
        As :func:`build_corpus`.
    """
    settings = ReadSettings(altloc, min_plddt)
    folder = find_cath(cath)
    items = make_items(folder)
    key = hashlib.sha256(stamp(items, settings).encode())
    for path in (folder.root.resolve(), folder.list_path):
        key.update(str(path).encode())
    if folder.list_path is not None:
        key.update(folder.list_path.read_bytes())
    base = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    out = base / "corpora" / f"{folder.root.resolve().name}-{key.hexdigest()[:16]}.h5"
    with file_lock(out.with_name(out.name + ".lock")):
        report = _report(out) or _build(folder, items, out, settings, workers, progress)
    if say is not None:
        say(str(report))
    return out


def _report(out: Path) -> BuildReport | None:
    """What a corpus that is already there says about its making; None without a usable one."""
    with suppress(DataError, KeyError), Corpus.open(out) as corpus:
        facts = corpus.provenance
        return BuildReport(
            out,
            len(corpus),
            int(corpus.lengths.sum()),
            facts["failed"],
            facts["first_failure"],
            corpus.dropped(),
            int((corpus.codes == "").sum()),
            notices=tuple(facts["notices"]),
        )
    return None


def _build(
    folder: CathFolder,
    items: list[Item],
    out: Path,
    settings: ReadSettings,
    workers: int | None,
    progress: bool,
) -> BuildReport:
    labels = read_domain_list(folder.list_path) if folder.list_path else {}
    failures: list[Failure] = []
    provenance: dict[str, Any] = {
        "protclip": __version__,
        "source": str(folder.root.resolve()),
        "domain_list": folder.list_path.name if folder.list_path else None,
        "reader": asdict(settings),
        "reader_version": reader_version(),
        "files": len(items),
        "notices": list(folder.notices),
    }
    writer = CorpusWriter(out, labels, provenance)
    # Pieces are known by the files that they were read from: any build may take up those of any other.
    with Unfinished(out, {"kind of output": "corpus"}, ending=".partial") as pieces, ExitStack() as stack:

        def merge(shard: Path) -> None:
            if not writer.is_open:
                stack.enter_context(writer)
            with Corpus(shard) as part:
                failures.extend(Failure(*failure) for failure in part.provenance["failures"])
                for facts, values in part.raw_blocks():
                    writer.add_raw(facts, values)

        # Merged while the workers read on.
        _, resumed = parse_items(items, pieces.folder, settings, workers, progress, ready=merge)
        writer.provenance["failed"] = len(failures)
        writer.provenance["first_failure"] = str(failures[0]) if failures else ""
        list_failures(out, failures, ("id", "file", "reason"))
        if not len(writer):
            pieces.remove()
            raise DataError(
                "no file gave a protein",
                where=str(folder.root),
                got=f"{len(failures)} failures, first: {failures[0]}",
                hint=f"See {failed_path(out)}",
            )
    report = _report(out)
    if report is None:
        raise DataError("the corpus just written cannot be read", where=str(out), hint="Is the disk sound?")
    return replace(report, resumed=resumed)


def parse_items(
    items: list[Item],
    partial: Path,
    settings: ReadSettings,
    workers: int | None = None,
    progress: bool = False,
    *,
    ready: Callable[[Path], None] = lambda shard: None,
) -> tuple[list[Path], int]:
    """Read `items` into shards in the folder `partial`, in order; also how many were there already.

    Each shard is a small corpus whose provenance lists its failures. `ready` is called with every shard, in
    order, as soon as it and all shards before it are there; never before the workers are started, which may
    be copies of this process and should inherit no open corpus.

    Raises
    ------
    DataError
        If the folder cannot be made, or a worker process dies.
    """
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError("cannot be written", where=str(partial), got=error.strerror or str(error)) from None
    chunks = _cut(items)
    shards: list[Path] = []
    waiting: set[Path] = set()
    given = resumed = 0
    if workers is None:
        # A daemonic process (a data loader's worker, say) may not start others.
        alone = len(items) < PARALLEL_FROM or multiprocessing.current_process().daemon
        workers = 1 if alone else available_cores()
    with _bar(progress, len(items)) as advance:

        def todo() -> Iterator[Work]:
            # Looked up one by one, so that the first workers need not wait for all names.
            nonlocal resumed
            for chunk in chunks:
                name = hashlib.sha256(stamp(chunk, settings).encode()).hexdigest()[:32]
                shard = partial / f"{name}.h5"
                done = _finished(shard)
                if done is None:
                    waiting.add(shard)
                shards.append(shard)
                if done is None:
                    yield chunk, shard
                else:
                    resumed += done
                    advance(len(chunk))

        def give() -> None:
            nonlocal given
            while given < len(shards) and shards[given] not in waiting:
                ready(shards[given])
                given += 1

        for chunk, shard in run_chunks(todo(), settings, min(workers, len(chunks))):
            advance(len(chunk))
            waiting.discard(shard)
            give()
        give()
    return shards, resumed


def _cut(items: list[Item]) -> list[list[Item]]:
    """Chunks of the items; the last ones are smaller, so that workers finish at about the same time."""
    size = min(max(CHUNK_FILES, len(items) // 32), LARGEST_CHUNK)
    chunks, start = [], 0
    while start < len(items):
        stop = start + min(size, max(CHUNK_FILES, (len(items) - start) // 2))
        chunks.append(items[start:stop])
        start = stop
    return chunks


def _finished(shard: Path) -> int | None:
    """Proteins in a shard of an earlier run that can be taken up; None if it has to be made (again)."""
    try:
        with Corpus(shard) as done:
            done.verify()
            failures = done.provenance["failures"]
            return None if any(reason.startswith(UNEXPECTED) for *_, reason in failures) else len(done)
    except DataError:
        return None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _bar(show: bool, total: int) -> Iterator[Done]:
    """A progress bar on stderr; gives the function that moves it."""
    if not show:
        yield lambda n: None
        return
    from rich.console import Console  # lazy: only for people who watch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading structures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Drawn when it moves, not by a thread: that would keep workers from starting as copies of this process.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=total)
        yield lambda n: bar.update(task, advance=n, refresh=True)
