"""Lists of captions in the published formats: Flickr-8k, Karpathy's, COCO's, plain JSON and tables."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from protclip.data.files.lines import numbered_lines
from protclip.data.paired.images import is_image_file
from protclip.data.paired.matched import SPLITS
from protclip.errors import DataError

PATTERNS = (
    *("*.token.txt", "*.token", "dataset*.json", "captions.json", "captions.tsv", "captions.csv"),
    *("captions.txt", "captions_train*.json", "captions_*.json"),
)
"""Names by which the list of captions of a folder is known, the first that fits."""

FLICKR_SPLITS = {"train": "*trainImages.txt", "valid": "*devImages.txt", "test": "*testImages.txt"}


class Captioned(NamedTuple):
    """An entry of a list.

    Attributes
    ----------
    file : str
        Image file, perhaps with folders.
    captions : list of str
        As they stand there, empty ones included.
    split : str
        ``train``, ``valid`` or ``test``; empty where the list does not say.
    """

    file: str
    captions: list[str]
    split: str = ""


def find_list(folder: Path) -> Path | None:
    """The list of captions of a dataset, in its folder or in a folder of lists (without images) in it.

    Raises
    ------
    DataError
        If several files of one kind are there.
    """
    for pattern in PATTERNS:
        for place in (pattern, f"*/{pattern}"):
            found = sorted(path for path in folder.glob(place) if path.is_file())
            if place != pattern:  # a folder with images is a dataset of its own
                found = [path for path in found if not any(map(is_image_file, path.parent.rglob("*")))]
            if len(found) > 1 and place == pattern:
                raise DataError(
                    "several lists of captions",
                    where=str(folder),
                    got=", ".join(path.name for path in found),
                    hint="Give one of the files itself",
                )
            if len(found) == 1:
                return found[0]
    return None


def read_list(path: Path, limit: int = 0) -> list[Captioned]:
    """Entries of a list of captions, one for each image, in the order of the file.

    Parameters
    ----------
    path : Path
        Its format is recognised by its name and content.
    limit : int
        Only the first so many entries: captions of COCO's format (Mini COCO is the first 15,000), images of
        the others. 0 takes all.

    Raises
    ------
    DataError
        If the file cannot be read or is of no known format.
    """
    per_caption = False
    if path.suffix == ".json":
        found, per_caption = _from_json(path, limit)
    elif ".token" in path.name:
        found = _flickr(path)
    else:
        found = _table(path)
    merged: dict[str, Captioned] = {}
    for entry in found:
        if entry.file in merged:
            old = merged[entry.file]
            merged[entry.file] = Captioned(old.file, old.captions + entry.captions, old.split or entry.split)
        else:
            merged[entry.file] = entry
    entries = list(merged.values())
    return entries[:limit] if limit and not per_caption else entries


def _json(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON ({error})", where=str(path)) from error


def _from_json(path: Path, limit: int) -> tuple[list[Captioned], bool]:
    """Entries, and whether ``limit`` has counted captions already."""
    content = _json(path)
    try:
        if isinstance(content, Mapping) and "annotations" in content:
            return _coco(content, limit), True
        if isinstance(content, Mapping) and isinstance(content.get("images"), list):
            return [_karpathy(entry) for entry in content["images"]], False
        if isinstance(content, Mapping):
            return [Captioned(str(file), _texts(value)) for file, value in content.items()], False
        return [_plain(entry) for entry in content], False
    except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise DataError(
            f"not a list of captions of a known form ({type(error).__name__}: {error})",
            where=str(path),
            expected='{"images": [{"filename", "sentences"}]} (Karpathy), {"images", "annotations"} (COCO), '
            '[{"image", "captions"}] or {file: captions}',
        ) from error


def _coco(content: Mapping[str, Any], limit: int) -> list[Captioned]:
    names = {image["id"]: str(image["file_name"]) for image in content["images"]}
    captions: dict[str, list[str]] = {}
    for note in content["annotations"][: limit or None]:
        # An annotation of an unlisted image is a caption without image.
        file = names.get(note["image_id"], f"image {note['image_id']}")
        captions.setdefault(file, []).append(str(note["caption"]))
    return [Captioned(file, texts) for file, texts in captions.items()]


def _karpathy(entry: Mapping[str, Any]) -> Captioned:
    texts = [
        str(sentence["raw"]) if "raw" in sentence else " ".join(sentence["tokens"])
        for sentence in entry["sentences"]
    ]
    folder = str(entry.get("filepath", ""))
    file = f"{folder}/{entry['filename']}" if folder else str(entry["filename"])
    return Captioned(file, texts, _split(entry.get("split", "")))


def _plain(entry: Mapping[str, Any]) -> Captioned:
    file = next(entry[key] for key in ("image", "file_name", "filename", "file") if key in entry)
    captions = entry["captions"] if "captions" in entry else entry["caption"]
    return Captioned(str(file), _texts(captions), _split(entry.get("split", "")))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return ["" if text is None else str(text) for text in value]


def _split(name: Any) -> str:
    if not name:
        return ""
    if str(name).lower() not in SPLITS:
        raise ValueError(f"no such split: {name!r}")
    return SPLITS[str(name).lower()]


def _flickr(path: Path) -> list[Captioned]:
    """``image.jpg#0<TAB>caption``, with the split lists beside it."""
    parts: dict[str, str] = {}
    for part, pattern in FLICKR_SPLITS.items():
        for names in sorted(path.parent.glob(pattern)):
            parts |= {line.strip(): part for line in _lines(names) if line.strip()}
    entries = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        file, hash_, _ = name.rpartition("#")
        if not tab or not hash_:
            raise DataError(
                "not a caption",
                where=f"{path}:{number}",
                got=repr(line[:60]),
                expected="image.jpg#0<TAB>caption",
            )
        entries.append(Captioned(file, [caption], parts.get(file, "")))
    return entries


def _table(path: Path) -> list[Captioned]:
    """Two or three columns: image, caption, split; a first row of column names is passed over."""
    entries = []
    lines = _lines(path)
    rows = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if path.suffix == ".tsv"
        else csv.reader(lines)
    )
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and _is_header(row)):
            continue
        if not 2 <= len(row) <= 3:
            raise DataError(
                "not a caption",
                where=f"{path}:{number}",
                got=f"{len(row)} columns",
                expected="image, caption",
            )
        try:
            entries.append(
                Captioned(row[0].strip(), [row[1]], _split(row[2].strip() if len(row) == 3 else ""))
            )
        except ValueError as error:
            raise DataError(str(error), where=f"{path}:{number}", expected="train, valid or test") from error
    return entries


def _is_header(row: Iterable[str]) -> bool:
    first, second, *_ = (*(cell.strip().lower() for cell in row), "")
    return first in ("image", "image_name", "file", "filename", "file_name") and second in (
        "caption",
        "captions",
    )


def _lines(path: Path) -> list[str]:
    return [line for _, line in numbered_lines(path)]


def count_splits(entries: Iterable[Captioned]) -> Counter[str]:
    """Entries of each part."""
    return Counter(entry.split for entry in entries)
