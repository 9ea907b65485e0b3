"""Images with captions as matched items: Flickr-8k, COCO, RSICD, UCM, Sydney, any folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protclip.data.paired.caption_files import Captioned, count_splits, find_list, read_list
from protclip.data.paired.images import is_image_file
from protclip.data.paired.matched import Matched


def read_captions(path: Path, limit: int = 0) -> Matched | None:
    """Images (left) and captions (right) of a dataset; None where there is no list of captions.

    The list is found by its name (see :data:`protclip.data.paired.caption_files.PATTERNS`); images may lie
    anywhere in the folder or below, under their listed path, their bare name, or their name with another
    suffix.

    - Images that are not there: their captions become unpaired texts.
    - Images without caption, or with empty ones alone, and images that the list does not name: unpaired.
    - Empty captions, and repetitions of a caption of the same image, are left out.
    - Where the list divides the images, those that it puts nowhere are left out, and so are images
      that it does not name.

    Parameters
    ----------
    path : Path
        Folder, or the list itself.
    limit : int
        See :func:`protclip.data.paired.caption_files.read_list`.

    Returns
    -------
    Matched
        Ids on the left are file names as listed, on the right ``<file>#<number of the caption>``.
    """
    listed = find_list(path) if path.is_dir() else path
    if listed is None:
        return None
    folder = path if path.is_dir() else path.parent
    entries = read_list(listed, limit)
    notices: list[str] = []
    own_split = sum(count for part, count in count_splits(entries).items() if part) > 0
    if own_split and (outside := [entry for entry in entries if not entry.split]):
        entries = [entry for entry in entries if entry.split]
        notices.append(f"{len(outside)} images are in no part of the dataset's own split and are left out")
    files, found_notes, others = _locate(folder, [entry.file for entry in entries])
    notices += found_notes
    texts, pairs, text_notes = _captions(entries, files)
    notices += text_notes
    left = {entry.file: files[entry.file] for entry in entries if entry.file in files}
    if others and not limit and not own_split:
        left |= {file.relative_to(folder).as_posix(): file for file in others}
        notices.append(f"{len(others)} images are not in {listed.name} and are unpaired")
    splits = {entry.file: entry.split for entry in entries if entry.split}
    return Matched(folder.name, ("image", "text"), left, texts, tuple(pairs), splits, tuple(notices))


def _locate(folder: Path, names: Sequence[str]) -> tuple[dict[str, Path], list[str], list[Path]]:
    """Path of each listed image, notices, and images that are not listed."""
    by_name: dict[str, list[Path]] = {}
    by_stem: dict[str, list[Path]] = {}
    everything = sorted(file for file in folder.rglob("*") if is_image_file(file))
    for file in everything:
        by_name.setdefault(file.name, []).append(file)
        by_stem.setdefault(file.stem, []).append(file)
    found: dict[str, Path] = {}
    renamed = ambiguous = 0
    missing: list[str] = []
    for name in names:
        if (folder / name).is_file():
            found[name] = folder / name
            continue
        bare = Path(name.replace("\\", "/"))
        choices = by_name.get(bare.name, [])
        # A path that the list gives in part decides between files of one name.
        exact = [file for file in choices if file.as_posix().endswith("/" + bare.as_posix())]
        choices = exact or choices
        if not choices and len(by_stem.get(bare.stem, [])) == 1:
            choices = by_stem[bare.stem]
            renamed += 1
        if not choices:
            missing.append(name)
            continue
        ambiguous += len(choices) > 1
        found[name] = choices[0]
    notices = []
    if missing:
        notices.append(
            f"{len(missing)} of {len(names)} listed images are missing (the first is {missing[0]}); "
            "their captions are unpaired"
        )
    if renamed:
        notices.append(f"{renamed} images were found under their name with another suffix")
    if ambiguous:
        notices.append(f"{ambiguous} image names occur in several folders; the first in order is taken")
    used = set(found.values())
    return found, notices, [file for file in everything if file not in used]


def _captions(
    entries: Sequence[Captioned], files: dict[str, Path]
) -> tuple[dict[str, str], list[tuple[str, str]], list[str]]:
    texts: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    empty = repeated = without = 0
    for entry in entries:
        seen: set[str] = set()
        for number, caption in enumerate(entry.captions):
            text = " ".join(caption.split())
            if not text:
                empty += 1
            elif text in seen:
                repeated += 1
            elif entry.file in files or entry.split in ("", "train"):
                id = f"{entry.file}#{number}"
                texts[id] = text
                if entry.file in files:
                    pairs.append((entry.file, id))
            seen.add(text)
        without += entry.file in files and not seen - {""}
    counts = (
        (empty, "captions are empty and left out"),
        (repeated, "captions repeat another of the same image and are left out"),
        (without, "images have no caption and are unpaired"),
    )
    return texts, pairs, [f"{count} {what}" for count, what in counts if count]
