"""Image files as arrays of red, green and blue bytes, whatever they are stored as.

What is done with the unusual ones is fixed here and noted on each image:

========================  ==========================================================================
animated (GIF, WebP)      the first frame
several pages (TIFF)      the first page
greyscale, two colours    the grey value three times
palette                   its colours
transparent               laid over white
CMYK, YCbCr, Lab          converted by Pillow, without a colour profile
16 bits                   divided by 257
32-bit numbers, floats    0 to 1, or 0 to 255, or whole numbers up to 65,535, by their range
turned by EXIF            turned upright
========================  ==========================================================================
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.errors import DataError, ProtclipError
from protclip.typing import Pixels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm")
HINT = "Install it with: pip install 'protclip[image-text]'"


class Decoded(NamedTuple):
    """One image.

    Attributes
    ----------
    pixels : uint8 array [height, width, 3]
        Red, green, blue.
    notes : tuple of str
        What was done to get there, for unusual images.
    """

    pixels: Pixels
    notes: tuple[str, ...]


def is_image_file(path: Path) -> bool:
    """True for a visible file with the name of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_image(source: Any, *, shortest: int | None = None, where: str | None = None) -> Decoded:
    """Decode an image file completely.

    Parameters
    ----------
    source : path, bytes or PIL.Image.Image
    shortest : int, optional
        Reduce the image so that its shorter side has this many pixels; smaller ones stay as they are.
    where : str, optional
        Name for errors; the path by default.

    Raises
    ------
    DataError
        If the file is missing, no image, cut short, or too large to be an honest one.
    ProtclipError
        If Pillow is not installed.

    Examples
    --------
    >>> image = pillow().new("L", (4, 3), 200)
    >>> decoded = read_image(image)
    >>> decoded.pixels.shape, decoded.notes
    ((3, 4, 3), ('greyscale, repeated in three channels',))
    """
    where = where or (str(source) if isinstance(source, (str, Path)) else "image")
    module = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oversized images end as errors below, broken EXIF is no matter
        try:
            image = (
                source
                if isinstance(source, module.Image)
                else module.open(io.BytesIO(source) if isinstance(source, bytes) else source)
            )
            if shortest is not None and image.format == "JPEG":
                # Decodes at a half, quarter or eighth where that is still larger than asked for.
                image.draft(None, (2 * shortest, 2 * shortest))
            image.load()
            rgb, notes = _to_rgb(image, where)
        except ProtclipError:
            raise
        except FileNotFoundError as error:
            raise DataError("no such image", where=where) from error
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, module.DecompressionBombError) as e:
            reason = "no image, or one of an unknown format" if "cannot identify" in str(e) else str(e)
            raise DataError(f"cannot be read as an image ({reason})", where=where) from e
    width, height = rgb.size
    if shortest is not None and min(width, height) > shortest:
        scale = shortest / min(width, height)
        size = (max(shortest, round(width * scale)), max(shortest, round(height * scale)))
        rgb = rgb.resize(size, module.Resampling.BICUBIC, reducing_gap=3.0)
    return Decoded(np.asarray(rgb, np.uint8), notes)


def pillow() -> Any:
    """The module ``PIL.Image``, with its constants and errors.

    Raises
    ------
    ProtclipError
        If Pillow is not installed.
    """
    try:
        from PIL import Image  # lazy: only images need it
    except ImportError as error:
        raise ProtclipError("images need Pillow, which is not installed", hint=HINT) from error
    return Image


def _to_rgb(image: Any, where: str) -> tuple[Any, tuple[str, ...]]:
    from PIL import ImageOps

    module = pillow()
    notes: list[str] = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a photograph with its preview
        image.seek(0)
        notes.append("the first frame of several")
    try:
        turned = ImageOps.exif_transpose(image)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, ZeroDivisionError):
        turned = image  # damaged EXIF data must not cost the picture
    if turned is not None and turned is not image and _orientation(image) > 1:
        notes.append("turned upright as EXIF says")
        image = turned
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return module.fromarray(_to_bytes(np.asarray(image), where)).convert("RGB"), (
            *notes,
            "16 or 32 bits per value, scaled to 8",
        )
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            notes.append("transparent, laid over white")
            ground = module.new("RGBA", image.size, (255, 255, 255, 255))
            image = module.alpha_composite(ground, image)
        return image.convert("RGB"), tuple(notes)
    if mode in ("L", "1"):
        notes.append("greyscale, repeated in three channels")
    elif mode == "P":
        notes.append("palette, converted to colours")
    elif mode != "RGB":
        notes.append(f"{mode} converted to RGB")
    return image.convert("RGB"), tuple(notes)


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except (OSError, ValueError, TypeError, SyntaxError):
        return 1


def _to_bytes(values: NDArray[Any], where: str) -> Pixels:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("pixel values are not finite", where=where, got="NaN or infinity")
    low, high = float(values.min()), float(values.max())
    sixteen = values.dtype in (np.uint16, np.dtype(">u2"))
    if low < 0 or high > 65535:
        raise DataError(
            "pixel values have no known range",
            where=where,
            got=f"{low:g} to {high:g}",
            expected="0 to 1, 0 to 255 or 0 to 65535",
            hint="Convert the image to 8 bits",
        )
    if sixteen or high > 255:
        scaled = values / 257.0
    elif values.dtype.kind == "f" and high <= 1:
        scaled = values * 255.0
    else:
        scaled = values.astype(np.float64)
    return np.round(scaled).astype(np.uint8)
