"""Image items: decoded once to find damage, kept where they are small, else decoded again when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protclip.data.paired.images import is_image_file, pillow, read_image
from protclip.errors import DataError
from protclip.typing import Pixels

KEPT_IN_MEMORY = 96
"""Up to this image size the decoded images stay in memory (about 35 kB each), above it they are decoded
again whenever they are needed, by the loader's workers."""


@dataclass(frozen=True)
class Picture:
    """An image that has been read once without error.

    Attributes
    ----------
    digest : bytes
        Hash of its pixels.
    notes : tuple of str
        What was done to an unusual file.
    pixels : uint8 array [height, width, 3] or None
        The image, reduced to what the tower needs; None where it is decoded again from ``path``.
    path : Path or None
    """

    digest: bytes
    notes: tuple[str, ...]
    pixels: Pixels | None
    path: Path | None = None


class PictureReader:
    """Reads images for a tower that sees squares of ``size`` pixels.

    Examples
    --------
    >>> ((id, item),) = PictureReader(32).read({"grey": np.full((40, 60, 3), 128, np.uint8)})
    >>> id, PictureReader(32).pixels(item).shape
    ('grey', (37, 56, 3))
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, source: Any) -> Iterable[tuple[str, Picture | Exception]]:
        """Images from a file, a folder and those below it, arrays, Pillow images, or several by id.

        The id of a file of a folder is its path below the folder without the suffix. Every file is decoded
        once, completely, so that a damaged one is found here.

        Raises
        ------
        DataError
            If a folder holds no images, or ``source`` is of another type.
        """
        if isinstance(source, (str, Path)):
            yield from self._read_path(Path(source))
        elif isinstance(source, Mapping):
            for id, value in source.items():
                yield str(id), self._read_one(value, str(id))
        elif (isinstance(source, np.ndarray) and source.ndim == 3) or isinstance(source, pillow().Image):
            yield "0", self._read_one(source, "0")
        elif isinstance(source, Iterable):
            for i, part in enumerate(source):
                if isinstance(part, tuple) and len(part) == 2:
                    yield str(part[0]), self._read_one(part[1], str(part[0]))
                elif isinstance(part, (str, Path)):
                    yield from self._read_path(Path(part))
                else:
                    yield str(i), self._read_one(part, str(i))
        else:
            raise DataError(
                "cannot be read as images",
                got=type(source).__name__,
                expected="a path, a folder, arrays [h, w, 3], Pillow images, or several of them",
            )

    def _read_path(self, path: Path) -> Iterable[tuple[str, Picture | Exception]]:
        if not path.is_dir():
            yield path.stem, self._read_one(path, str(path))
            return
        files = [file for file in sorted(path.rglob("*")) if is_image_file(file)]
        if not files:
            raise DataError(
                "no images in the folder", where=str(path), expected="files named *.jpg, *.png, ..."
            )
        for file in files:
            yield file.relative_to(path).with_suffix("").as_posix(), self._read_one(file, str(file))

    def _read_one(self, source: Any, where: str) -> Picture | Exception:
        try:
            decoded = read_image(_image_of(source, where), shortest=self._working_size(), where=where)
        except DataError as error:
            return error
        head = f"{decoded.pixels.shape} ".encode()
        digest = hashlib.sha256(head + decoded.pixels.tobytes()).digest()
        on_disk = isinstance(source, (str, Path)) and self.size > KEPT_IN_MEMORY
        return Picture(
            digest,
            decoded.notes,
            None if on_disk else decoded.pixels,
            Path(source) if isinstance(source, (str, Path)) else None,
        )

    def _working_size(self) -> int:
        # Room for random crops without carrying whole photographs: 256 pixels for a tower of 224.
        return round(self.size * 8 / 7)

    def pixels(self, item: Picture) -> Pixels:
        """Bytes [height, width, 3] of an image, decoded again where they were not kept."""
        if item.pixels is not None:
            return item.pixels
        return read_image(item.path, shortest=self._working_size()).pixels


def _image_of(source: Any, where: str) -> Any:
    """A path, bytes or a Pillow image; arrays become the latter."""
    if not isinstance(source, np.ndarray):
        if isinstance(source, (str, Path, bytes, pillow().Image)):
            return source
        raise DataError("not an image", where=where, got=type(source).__name__, expected="a path or an array")
    if (
        source.dtype != np.uint8
        or source.ndim not in (2, 3)
        or (source.ndim == 3 and source.shape[2] not in (3, 4))
    ):
        raise DataError(
            "not an image",
            where=where,
            got=f"{source.dtype} {list(source.shape)}",
            expected="uint8 [height, width, 3]",
        )
    if 0 in source.shape:
        raise DataError("an image without pixels", where=where, got=str(list(source.shape)))
    return pillow().fromarray(source)
