"""A large input cut into numbered shards that any process can read on its own.

All files of the input, laid end to end, are cut at equal distances in bytes; an item belongs to the shard in
which it begins.  FASTA files, tar and zip archives and corpus files are entered in the middle; a file that
cannot be (compressed as a whole, or one item by itself) belongs to the shard in which it begins.  The cut
depends on names and sizes of the files alone, so that every process finds the same one, and no item is read
twice or left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from protclip.data.files.item_names import ItemName, names_below
from protclip.errors import ConfigError, DataError
from protclip.structure.reading.source import stem_of

if TYPE_CHECKING:
    from protclip.data.corpus.store import Corpus

STORE_SUFFIXES = (".h5", ".hdf5")
READ_PROTEINS = 512
"""Proteins taken from a corpus file at once."""


@dataclass(frozen=True)
class Span:
    """A stretch of the bytes of one file; it stands for the items that begin in it.

    Attributes
    ----------
    path : Path
    start, stop : int
        Bytes.
    size : int
        Of the whole file.
    name : ItemName or None
        What its items are called among those of other files; by the file alone where it is None.
    """

    path: Path
    start: int
    stop: int
    size: int
    name: ItemName | None = None

    @classmethod
    def whole(cls, path: Path, name: ItemName | None = None) -> Span:
        """All of a file.

        Raises
        ------
        DataError
            If there is no such file.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
        return cls(path, 0, max(size, 1), size, name)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the file is left out."""
        return self.start == 0 and self.stop >= self.size


@dataclass(frozen=True)
class Shard:
    """One part of an input.

    Attributes
    ----------
    source : str
        The input.
    number, count : int
        Part ``number``, from 1, of ``count``.
    spans : tuple of Span
    """

    source: str
    number: int
    count: int
    spans: tuple[Span, ...]

    def __str__(self) -> str:
        digest = hashlib.sha256()
        for span in self.spans:
            digest.update(f"{span.path.name} {span.start} {span.stop} {span.size}\n".encode())
        return f"{self.source} shard {self.number}/{self.count} {digest.hexdigest()[:12]}"


class FileList:
    """The files of an input and their sizes, looked up once.

    Parameters
    ----------
    source : str or Path
        The input, for messages.
    files : sequence of Path
        In an order that is always the same.

    Raises
    ------
    DataError
        If there is none, or one cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in "ab":
    ...     _ = (folder / name).write_bytes(bytes(60))
    >>> shard = FileList(folder, sorted(folder.iterdir())).shard(2, 3)
    >>> [(span.path.name, span.start, span.stop) for span in shard.spans]
    [('a', 40, 60), ('b', 0, 20)]
    """

    def __init__(self, source: str | Path, files: Sequence[Path]) -> None:
        if not files:
            raise DataError("no files to read here", where=str(source))
        self.source, self.files = str(source), list(files)
        self.names = names_below(Path(source), self.files, stem_of)
        self.sizes = [Span.whole(path).size for path in files]
        # An empty file counts as one byte: it begins somewhere too, and its error is listed.
        self.ends = np.cumsum([max(size, 1) for size in self.sizes], dtype=np.int64)

    def shard(self, number: int, count: int) -> Shard:
        """Part ``number`` (from 1) of ``count``."""
        if not 1 <= number <= count:
            raise ConfigError(
                "no such shard",
                where=f"--shard {number}/{count}",
                expected=f"a number from 1 to {count}" if count > 0 else "at least one shard",
            )
        total = int(self.ends[-1])
        start, stop = total * (number - 1) // count, total * number // count
        spans = []
        i = int(np.searchsorted(self.ends, start, "right"))
        while start < stop and i < len(self.files):
            end = int(self.ends[i])
            first = end - max(self.sizes[i], 1)
            spans.append(
                Span(
                    self.files[i],
                    max(start, first) - first,
                    min(stop, end) - first,
                    self.sizes[i],
                    self.names[i],
                )
            )
            start, i = end, i + 1
        return Shard(self.source, number, count, tuple(spans))


def parse_shard(text: str) -> tuple[int, int]:
    """Number and count from ``i/n``.

    Raises
    ------
    ConfigError
        If it is not that.

    Examples
    --------
    >>> parse_shard("3/16")
    (3, 16)
    """
    number, slash, count = text.partition("/")
    if not (slash and number.strip().isdecimal() and count.strip().isdecimal()):
        raise ConfigError("not a shard", where=f"--shard {text}", expected="i/n, such as 1/16 to 16/16")
    if not 1 <= int(number) <= int(count):
        raise ConfigError("no such shard", where=f"--shard {text}", expected=f"1/{count} to {count}/{count}")
    return int(number), int(count)


def is_corpus(path: Path) -> bool:
    """Whether this is a corpus file, by its content."""
    if path.suffix.lower() not in STORE_SUFFIXES or not path.is_file():
        return False
    from protclip.data.corpus.store import Corpus  # lazy: h5py stands behind it

    try:
        Corpus.open(path).close()
    except DataError:
        return False
    return True


def corpus_rows(corpus: Corpus, span: Span) -> Iterator[range]:
    """Rows of a corpus file that fall to ``span``, in pieces of bounded size."""
    n, size = len(corpus), max(span.size, 1)
    first, last = (-(-n * place // size) for place in (span.start, span.stop))
    last = n if span.stop >= size else last
    for start in range(first, last, READ_PROTEINS):
        yield range(start, min(last, start + READ_PROTEINS))
