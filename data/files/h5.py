"""HDF5 files: read late, once per process, and by name in workers; written on disks that may fill up."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from protclip.errors import DataError

if TYPE_CHECKING:
    import h5py

Self = TypeVar("Self", bound="LazyH5")

DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    MemoryError,
)
"""What h5py raises on damaged bytes, by where the damage sits."""


class LazyH5:
    """Read-only HDF5 file that any number of processes can read at once.

    The handle is opened at the first read and again in every forked or spawned process; pickling
    carries the path alone. No lock is taken: files are replaced, never changed in place.
    """

    what = "HDF5 file"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._pid = -1
        self._datasets: dict[str, h5py.Dataset] = {}

    @property
    def file(self) -> h5py.File:
        """The open handle of this process."""
        if self._file is None or self._pid != os.getpid():
            import h5py  # lazy: not needed to show a help text

            if not self.path.is_file():
                raise DataError(f"no such {self.what}", where=str(self.path), hint=self._missing_hint())
            try:
                self._file = h5py.File(self.path, "r", locking=False)
            except OSError as error:
                raise DataError(
                    f"not a readable {self.what}: it is cut off, damaged or of another kind",
                    where=str(self.path),
                    got=str(error).split("(")[-1].rstrip(")") or "an unreadable file",
                    expected="an HDF5 file",
                    hint="Write or copy it again",
                ) from None
            self._pid = os.getpid()
            self._datasets = {}
        return self._file

    def _dataset(self, name: str) -> h5py.Dataset:
        """A dataset of the open file; looking it up each time costs more than a small read."""
        file = self.file
        if name not in self._datasets:
            self._datasets[name] = file[name]
        return self._datasets[name]

    def _missing_hint(self) -> str | None:
        return None

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn whatever h5py and numpy raise on damaged content into a DataError."""
        try:
            yield
        except DAMAGE as error:
            raise DataError(
                f"the {self.what} is damaged",
                where=str(self.path),
                got=str(error).strip("'\"")[:200],
                hint="Write or copy it again",
            ) from error

    def close(self) -> None:
        """Close the handle of this process; the next read opens it again."""
        file, self._file = self._file, None
        self._datasets = {}
        if file is not None and self._pid == os.getpid():
            with self._damage():
                file.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_pid": -1, "_datasets": {}}


class SteadyFile(io.FileIO):
    """A new file for HDF5 to write to, in which no write fails: the first failure is kept for :meth:`check`.

    A write that fails leaves HDF5 in a state in which it complains of every object and ends the process with
    a segmentation fault. So it is told that all is well, and the file, worth nothing by then, is thrown away.
    """

    def __init__(self, path: str | Path, mode: str = "w+b") -> None:
        super().__init__(path, mode)
        self.failure: OSError | None = None

    def check(self) -> None:
        """Raise the first failure.

        Raises
        ------
        OSError
            As the system gave it.
        """
        if self.failure is not None:
            raise self.failure

    def write(self, content: Any) -> int:
        """Write all of ``content``, or remember why not."""
        view = memoryview(content).cast("B")
        stop = self.tell() + len(view)
        done = 0
        try:
            while self.failure is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        if self.failure is not None:
            self.seek(stop)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill all of ``buffer``; what was not written reads as zeros."""
        view = memoryview(buffer).cast("B")
        done = super().readinto(view) or 0
        view[done:] = bytes(len(view) - done)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


@contextmanager
def new_h5(path: str | Path, **options: Any) -> Iterator[h5py.File]:
    """A new HDF5 file to fill.

    Raises
    ------
    OSError
        At the end, if something could not be written.
    """
    import h5py  # lazy: not needed to show a help text

    with SteadyFile(path) as stream:
        with h5py.File(stream, "w", **options) as file:
            yield file
        stream.check()
