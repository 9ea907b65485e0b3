"""Proteins of the user: folders of structures, FASTA and structure files, archives; what is read of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protclip.compression import open_content
from protclip.data.corpus.cath import find_cath
from protclip.data.files.members import is_archive
from protclip.describe.description import Description, Kind, command, json_table, made
from protclip.errors import DataError, ProtclipError
from protclip.structure.reading.source import suffix_of

MOST_RECORDS = 100_000
"""Records of a FASTA file that are counted; a larger one is said to have more."""


def is_structure_folder(path: Path) -> bool:
    """Whether a folder holds structure files, as CATH lays them out or flat."""
    try:
        return bool(find_cath(path).files)
    except ProtclipError:
        return False


def is_cath(path: Path) -> bool:
    """Whether a folder of structures has CATH's list or CATH's layout."""
    return is_structure_folder(path) and ((path / "dompdb").is_dir() or find_cath(path).list_path is not None)


def describe_structures(path: Path) -> Description:
    """A folder of structures."""
    found = find_cath(path)
    ids = list(found.files)
    facts = {
        "domains": len(ids),
        "ids": ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else ""),
        "list": found.list_path or "none: domains have no CATH labels",
        "notices": "; ".join(found.notices),
    }
    source = json_table(path / "SOURCE.json")
    how = f"protclip data download cath, release {source['release']}" if "release" in source else ""
    inputs = path / "dompdb" if (path / "dompdb").is_dir() else path
    return Description(
        facts,
        made(how, at=path),
        [
            command("pretrain", "--cath", path, "--paired", 0.5),
            command("embed", "MODEL", "-i", inputs, "-o", "out.h5"),
            command("data", "build", "--cath", path, "-o", "corpus.h5"),
        ],
    )


def _text(path: Path) -> bytes:
    """The beginning of a file, decompressed where it is compressed; nothing where it is damaged."""
    try:
        with path.open("rb") as stream:
            return open_content(stream, str(path)).read(4096)
    except (OSError, DataError):
        return b""


def is_fasta(path: Path) -> bool:
    """Whether a file begins like FASTA."""
    return path.is_file() and _text(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b">")


def describe_fasta(path: Path) -> Description:
    """A FASTA file: what protclip reads from it."""
    from protclip.data.files.fasta import read_fasta

    read, lengths, bad = _first_records(read_fasta(path, unique=False, on_error="yield"))
    ids = list(read)
    some = " (and more)" if len(ids) + len(bad) >= MOST_RECORDS else ""
    facts: dict[str, Any] = {
        "sequences": f"{len(lengths)}{some}",
        "ids": ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else ""),
        "length": f"{min(lengths)} to {max(lengths)} residues" if lengths else "",
        "cannot be read": f"{len(bad)}, first: {bad[0]}" if bad else "",
        "the same id again": len(lengths) - len(ids) or None,
    }
    return Description(
        facts,
        made(at=path),
        [
            command("embed", "MODEL", "-i", path, "-o", "out.h5"),
            command("predict", "HEAD", "-i", path, "-o", "out.tsv"),
            command("pretrain", "--cath", "CATH", "--unpaired-sequences", path),
        ],
    )


def _first_records(
    records: Iterator[tuple[str, str | DataError]],
) -> tuple[dict[str, None], list[int], list[str]]:
    ids: dict[str, None] = {}
    lengths, bad = [], []
    for id, found in itertools.islice(records, MOST_RECORDS):
        if isinstance(found, str):
            ids[id] = None
            lengths.append(len(found))
        else:
            bad.append(f"{id}: {found.message}")
    return ids, lengths, bad


def is_structure(path: Path) -> bool:
    """Whether a file is a structure, by its content, or claims to be one by its name."""
    if not path.is_file():
        return False
    if suffix_of(path.name):
        return True
    from protclip.structure.reading.formats import sniff  # lazy: gemmi stands behind it

    try:
        return bool(sniff(_text(path), str(path)))
    except ProtclipError:
        return False


def describe_structure(path: Path) -> Description:
    """A structure file: the chains that protclip reads from it."""
    from protclip.structure.reading.read import read_chains

    chains = read_chains(path)
    left_out: dict[str, int] = {}
    for chain in chains:
        for kind, count in chain.dropped.items():
            left_out[kind] = left_out.get(kind, 0) + count
    facts = {
        "protein chains": len(chains),
        "residues": ", ".join(f"{chain.id}: {len(chain)}" for chain in chains[:8]),
        "first sequence": chains[0].sequence[:60] + ("..." if len(chains[0]) > 60 else "") if chains else "",
        "left out": left_out,
        "predicted": "yes, with pLDDT" if any(chain.plddt is not None for chain in chains) else None,
    }
    return Description(
        facts,
        made(at=path),
        [
            command("embed", "MODEL", "-i", path, "-o", "out.h5"),
            command("predict", "HEAD", "-i", path, "-o", "out.tsv"),
        ],
    )


def describe_archive(path: Path) -> Description:
    """An archive: what lies in it."""
    import tarfile
    import zipfile

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as bundle:
                names = [name for name in bundle.namelist() if not name.endswith("/")]
        else:
            with tarfile.open(path) as tar:
                names = [member.name for member in itertools.islice(tar, MOST_RECORDS) if member.isfile()]
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError("a damaged archive", where=str(path), got=str(error)[:200]) from None
    facts = {"files": len(names), "first": ", ".join(names[:3])}
    task = {"EnzymeCommission.zip": "ec", "GeneOntology.zip": "go"}.get(path.name)
    uses = [command("data", "build", task, "--archive", path)] if task else []
    return Description(facts, made(at=path), [*uses, command("embed", "MODEL", "-i", path, "-o", "out.h5")])


def vector_uses(path: Path, modality: str) -> list[str]:
    """What can be done with an HDF5 file of vectors that stand for the sequences of proteins."""
    if modality not in ("", "sequence"):
        return []
    return [
        command("pretrain", "--cath", "CATH", "--vectors", path),
        command("finetune", "TASK", "--towers", "sequence", "--vectors", path),
    ]


FOLDERS = (
    Kind("CATH folder", is_cath, describe_structures),
    Kind("folder of structures", is_structure_folder, describe_structures),
)
FILES = (
    Kind("FASTA file", is_fasta, describe_fasta),
    Kind("archive", is_archive, describe_archive),
    Kind("structure file", is_structure, describe_structure),
)
