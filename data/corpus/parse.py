"""Parsing chunks of structure files into shards, in this process or in workers."""

from __future__ import annotations

import functools
import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from protclip.data.corpus.cath import CathFolder
from protclip.data.corpus.layout import FORMAT_VERSION
from protclip.data.corpus.writer import CorpusWriter
from protclip.errors import DataError, ProtclipError

if TYPE_CHECKING:
    from protclip.structure.protein import Protein


UNEXPECTED = "unexpected"
"""Begins the reason of a failure that is no ProtclipError; such work is done again on the next run."""


class Item(NamedTuple):
    """One domain to read: file, and what to cut out of it (empty chopping: all of it)."""

    id: str
    path: str
    chain: str | None
    chopping: str


class Failure(NamedTuple):
    """One file that gave no protein."""

    id: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


@dataclass(frozen=True)
class ReadSettings:
    """How structures are read; part of the key under which finished work is kept."""

    altloc: Literal["occupancy", "first"] = "occupancy"
    min_plddt: float | None = None


Work = tuple[list[Item], Path]


def make_items(folder: CathFolder) -> list[Item]:
    """The domains of a folder, in the order of the corpus (by id)."""
    items = []
    for id, path in folder.files.items():
        cut = folder.cuts.get(id)
        items.append(Item(id, str(path), cut.chain, cut.chopping) if cut else Item(id, str(path), None, ""))
    return items


def stamp(items: list[Item], settings: ReadSettings) -> str:
    """A digest that changes with the files (name, size, times), the settings and the reader."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {reader_version()} {asdict(settings)}".encode())
    for item in items:
        try:
            facts = os.stat(item.path)  # noqa: PTH116  (a path object costs more than the look)
            # The time of the last change cannot be set back, as that of the last modification is by a copy.
            state = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        except OSError:
            state = (0, 0, 0)
        name = os.path.basename(item.path)  # noqa: PTH119
        digest.update(repr((name, *item[::2], item.chopping, *state)).encode())
    return digest.hexdigest()


@functools.cache
def reader_version() -> str:
    """Digest of the code that reads structures (and not of the encoders beside it), and gemmi's version."""
    import protclip.structure.protein as protein

    folder = Path(protein.__file__).parent
    digest = hashlib.sha256(version("gemmi").encode() + Path(__file__).read_bytes())
    for code in (folder / "protein.py", *sorted((folder / "reading").glob("*.py"))):
        digest.update(code.read_bytes())
    return digest.hexdigest()[:16]


def read_item(item: Item, settings: ReadSettings) -> Protein:
    """Read one domain.

    Raises
    ------
    ProtclipError
        If the file gives no protein.
    """
    from protclip.structure.reading.read import read_structure  # lazy: gemmi stands behind it

    return read_structure(
        item.path,
        chain=item.chain,
        segments=item.chopping or None,
        altloc=settings.altloc,
        min_plddt=settings.min_plddt,
        id=item.id,
    )


def parse_chunk(items: list[Item], settings: ReadSettings, shard: Path) -> int:
    """Read `items` and write a shard: a small corpus with the failures in its provenance."""
    failures: list[Failure] = []
    # Not durable: a shard is verified before it is taken up, and the corpus made of it is synced.
    with CorpusWriter(shard, durable=False) as writer:
        for item in items:
            try:
                protein = read_item(item, settings)
            except ProtclipError as error:
                failures.append(Failure(item.id, item.path, str(error)))
                continue
            except Exception as error:  # one nasty file must not cost the other half million
                failures.append(Failure(item.id, item.path, f"{UNEXPECTED} {type(error).__name__}: {error}"))
                continue
            try:
                writer.add(protein)
            except DataError as error:
                failures.append(Failure(item.id, item.path, str(error)))
        writer.provenance["failures"] = failures
    return len(items)


def run_chunks(todo: Iterable[Work], settings: ReadSettings, workers: int) -> Iterator[Work]:
    """Parse chunks, giving each as it is finished.

    Raises
    ------
    DataError
        If a worker process dies.
    """
    if workers <= 1:
        for items, shard in todo:
            parse_chunk(items, settings, shard)
            yield items, shard
        return
    method = start_method()
    if method == "fork":
        # What workers need is imported here once: starting them then takes milliseconds.
        import h5py  # noqa: F401  (lazy, as below)

        import protclip.structure.reading.read  # noqa: F401
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), _start_worker)
    try:
        queue = iter(todo)
        running: set[Future[int]] = set()
        work: dict[Future[int], Work] = {}
        while True:
            # A bounded number in flight, so that a list of a million files is not queued at once.
            for items, shard in itertools.islice(queue, 2 * workers - len(running)):
                future = pool.submit(parse_chunk, items, settings, shard)
                running.add(future)
                work[future] = items, shard
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                yield work.pop(future)
    except BrokenProcessPool:
        raise DataError(
            "a worker process died (killed, out of memory, or a script without its main guard)",
            where="building the corpus",
            hint="Finished work is kept: run it again, with --workers 1 to see where it ends; "
            'in a script put the call under `if __name__ == "__main__":`',
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_method() -> Literal["fork", "spawn"]:
    """How to start workers: as copies of this process where that is safe, else afresh.

    A copy has one thread, whatever the others were doing or holding. So this process must have no other,
    Python's or a library's, but for those whose library stops them when a fork is near, as OpenBLAS does: a
    first child that ends at once shows which are left. Only Linux says how many threads there are.
    """
    tasks = Path("/proc/self/task")
    if threading.active_count() > 1 or not (hasattr(os, "fork") and tasks.is_dir()):
        return "spawn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of the very threads that are looked for
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "fork" if len(list(tasks.iterdir())) == 1 else "spawn"


def _start_worker() -> None:
    """Ctrl-C is the parent's business, and a worker must not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
