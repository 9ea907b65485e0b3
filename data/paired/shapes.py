"""A small sample of images with captions that the project draws itself: coloured shapes on noisy paper."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from protclip.data.paired.images import pillow
from protclip.errors import DataError
from protclip.files import atomic_write
from protclip.work.locks import file_lock

COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (235, 205, 40),
    "orange": (240, 140, 30),
    "purple": (130, 50, 160),
    "black": (25, 25, 25),
    "pink": (245, 150, 190),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
SIZES = {"small": 7, "large": 13}
"""Radius in pixels of a 64-pixel image."""
PLACES = {
    "top left": (18, 18),
    "top right": (46, 18),
    "bottom left": (18, 46),
    "bottom right": (46, 46),
    "centre": (32, 32),
}
SIDE = 64
COUNT = 480
VERSION = 1

README = """# Shapes: a drawn image-caption sample

Written by `protclip data sample shapes`. Each image shows one shape of one colour and size in one place, and
no two images show the same combination; each has two captions in `captions.json`. Nothing is from elsewhere.
"""


def write_shapes(folder: Path, *, count: int = COUNT, seed: int = 0) -> Path:
    """Draw the sample into a folder, unless it is there already; the same pixels every time.

    Parameters
    ----------
    folder : Path
        Gets ``images/*.png``, ``captions.json`` and a README.
    count : int
        Images, at most one for each of the 480 combinations of colour, shape, size and place.
    seed : int
        Of the order and of the small differences between images.

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    DataError
        If the folder holds something else.

    Examples
    --------
    >>> import tempfile
    >>> folder = write_shapes(Path(tempfile.mkdtemp()) / "shapes", count=3)
    >>> json.loads((folder / "captions.json").read_text())[0]["captions"][0]
    'a small green triangle at the bottom left'
    """
    mark = {"version": VERSION, "count": count, "seed": seed}
    with file_lock(folder.with_name(f".{folder.name}.lock")):
        if _is_done(folder, mark):
            return folder
        if folder.exists() and not (folder / "sample.json").is_file() and any(folder.iterdir()):
            raise DataError("the folder holds something else", where=str(folder), hint="Choose another")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "images").mkdir(parents=True)
        rng = np.random.default_rng([seed, VERSION])
        combinations = list(product(COLOURS, SHAPES, SIZES, PLACES))
        entries = []
        for number, place in enumerate(rng.permutation(len(combinations))[:count]):
            colour, shape, size, where = combinations[place]
            name = f"{number:04d}.png"
            _draw(colour, shape, size, where, rng).save(partial / "images" / name, optimize=False)
            entries.append({"image": name, "captions": _captions(colour, shape, size, where)})
        atomic_write(partial / "captions.json", json.dumps(entries, indent=0) + "\n")
        atomic_write(partial / "README.md", README)
        atomic_write(partial / "sample.json", json.dumps(mark) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def _is_done(folder: Path, mark: dict[str, int]) -> bool:
    try:
        return bool(json.loads((folder / "sample.json").read_text()) == mark)
    except (OSError, ValueError):
        return False


def _captions(colour: str, shape: str, size: str, where: str) -> list[str]:
    place = "in the centre" if where == "centre" else f"at the {where}"
    height, _, side = where.partition(" ")
    corner = "middle" if where == "centre" else f"{'upper' if height == 'top' else 'lower'} {side} corner"
    return [
        f"a {size} {colour} {shape} {place}",
        f"there is a {colour} {shape} , {size} , in the {corner} of the picture",
    ]


def _draw(colour: str, shape: str, size: str, where: str, rng: np.random.Generator) -> Any:
    """One image: paper of a random light tone with noise, the shape a little off its place and tone."""
    from PIL import ImageDraw

    module = pillow()
    paper = rng.uniform(200, 250, 3) + rng.normal(0, 6, (SIDE, SIDE, 3))
    scale = 4  # drawn large and reduced, for smooth edges
    mask = module.new("L", (SIDE * scale, SIDE * scale), 0)
    pen = ImageDraw.Draw(mask)
    x, y = (scale * (centre + rng.uniform(-3, 3)) for centre in PLACES[where])
    r = scale * SIZES[size] * rng.uniform(0.9, 1.1)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif shape == "ring":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
        pen.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=0)
    elif shape == "square":
        pen.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=255)
    elif shape == "diamond":
        pen.polygon([(x, y - 1.2 * r), (x + r, y), (x, y + 1.2 * r), (x - r, y)], fill=255)
    elif shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)], fill=255)
    else:
        pen.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=255)
        pen.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=255)
    weight = np.asarray(mask.resize((SIDE, SIDE), module.Resampling.BOX), np.float64)[..., None] / 255
    ink = np.array(COLOURS[colour]) + rng.normal(0, 8, 3)
    pixels = paper * (1 - weight) + ink * weight
    return module.fromarray(np.round(pixels).clip(0, 255).astype(np.uint8))
