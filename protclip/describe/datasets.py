"""What a run reads: corpora and benchmarks, downloads and the cache, structures and sequences of the user."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protclip.data.corpus.cath import STRUCTURE_SUFFIXES, find_cath
from protclip.data.files.spans import is_archive
from protclip.describe.description import Description, command, head, json_table, made, version
from protclip.describe.embedding_files import hdf5_names
from protclip.errors import DataError, ProtclipError
from protclip.files import cache_dir

MOST_RECORDS = 100_000
"""Records of a FASTA file that are counted; a larger one is said to have more."""

CACHED = {
    "benchmarks": "built benchmarks, and the demonstrations",
    "downloads": "benchmarks as they were published",
    "cath": "CATH as it was published",
    "corpora": "parsed structures",
    "features": "features of frozen towers",
    "esm2": "ESM-2 weights",
    "samples": "samples that protclip makes itself",
}
"""Folders of the cache."""


def is_benchmark_file(path: Path) -> bool:
    """Whether an HDF5 file holds proteins with labels and splits."""
    return {"benchmark", "offset", "ca"} <= hdf5_names(path)


def is_corpus_file(path: Path) -> bool:
    """Whether an HDF5 file holds proteins."""
    return {"offset", "ca"} <= hdf5_names(path)


def describe_benchmark(path: Path) -> Description:
    """A benchmark beside its published counts."""
    from protclip.data.benchmarks.benchmark_file import Benchmark

    with Benchmark.open(path) as benchmark:
        info, task = benchmark.info(), benchmark.task
    names = ("task", "version", "note", "classes", "found/expected", "missing", "proteins")
    facts = {name: info[name] for name in names if info.get(name) not in (None, "")}
    again = command("data", "build", task)
    made_from = ", ".join(str(entry["file"]) for entry in info["provenance"].get("lists", []))
    how = f"{again} from {made_from}" if made_from else "" if "note" in facts else again
    return Description(
        facts,
        made(how, version(info["provenance"]), at=path),
        [command("finetune", task, "--data", path), command("data", "info", path)],
    )


def describe_corpus(path: Path) -> Description:
    """A corpus: how many proteins, which labels, what was left out."""
    from protclip.data.corpus.store import Corpus

    with Corpus.open(path) as corpus:
        info = corpus.info()
    names = ("proteins", "residues", "length", "labelled", "cath", "dropped")
    made_by = info["provenance"]
    again = command("data", "build", "--cath", made_by["source"], "-o", path) if "source" in made_by else ""
    return Description(
        {name: info[name] for name in names},
        made(again, version(made_by), at=path),
        [
            command("pretrain", "--cath", path, "--paired", 0.5),
            command("embed", "MODEL", "-i", path, "-o", "out.h5"),
            command("data", "info", path, "--verify"),
        ],
    )


def is_build(path: Path) -> bool:
    """Whether a folder holds the finished part of a build that was interrupted."""
    return path.name.endswith(".partial") and any(map(is_corpus_file, itertools.islice(path.glob("*.h5"), 3)))


def describe_build(path: Path) -> Description:
    """The finished part of a corpus or benchmark."""
    from protclip.data.corpus.store import Corpus

    out = path.with_name(path.name.removesuffix(".partial"))
    proteins = 0
    for shard in path.glob("*.h5"):
        with Corpus(shard) as part:
            proteins += len(part)
    facts = {"output": out, "proteins so far": proteins}
    again = [command("data", "build", "--cath", "CATH", "-o", out)]
    if path.parent.name == "benchmarks":
        again = [command("data", "build", out.stem)]
    return Description(facts, made("a build that was interrupted", at=path), again)


def is_download(path: Path) -> bool:
    """Whether a folder holds a benchmark as it was published."""
    return "benchmark" in json_table(path / "SOURCE.json")


def describe_download(path: Path) -> Description:
    """A benchmark as it was published."""
    record = json_table(path / "SOURCE.json")
    name = str(record["benchmark"])
    files = [f"{entry['file']} from {entry['from']}" for entry in record.get("files", [])]
    facts = {
        "benchmark": name,
        "version": record.get("version"),
        "files": "; ".join(files[:2]) + (f"; and {len(files) - 2} more" if len(files) > 2 else ""),
        "licence": record.get("licence"),
    }
    own = path.resolve() == (cache_dir() / "downloads" / name).resolve()
    again = command("data", "download", name, *([] if own else ["-o", path]))
    build = command("data", "build", name, *([] if own else ["--from", path]))
    return Description(facts, made(again, at=path / "SOURCE.json"), [build])


def is_cache(path: Path) -> bool:
    """Whether this is the cache, or one in its usual place."""
    if path.resolve() == cache_dir().resolve():
        return True
    return path.name == "protclip" and path.parent.name == ".cache"


def describe_cache(path: Path) -> Description:
    """The cache: what lies in it and how large it is."""
    sizes = {name: _size(path / name) for name in CACHED if (path / name).is_dir()}
    facts = {name: f"{CACHED[name]}, {size / 1e6:.1f} MB" for name, size in sizes.items()}
    note = "everything in it can be deleted: it is fetched or made again when it is needed"
    return Description(
        {**facts, "note": note}, made(at=path), [command("info", path / name) for name in sizes]
    )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def is_part_of_cache(path: Path) -> bool:
    """Whether this is one of the folders of a cache, or a folder of features in it."""
    return (path.name in CACHED and is_cache(path.parent)) or path.name.startswith("features-")


def describe_part_of_cache(path: Path) -> Description:
    """A folder of the cache."""
    what = CACHED["features" if path.name.startswith("features-") else path.name]
    names = [entry.name for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    facts = {"holds": what, "entries": ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")}
    note = "can be deleted: it is fetched or made again when it is needed"
    return Description({**facts, "MB": round(_size(path) / 1e6, 1), "note": note}, made(at=path), [])


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
    """The beginning of a file, decompressed where it is gzipped."""
    import zlib

    data = head(path)
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return zlib.decompressobj(31).decompress(data, 4096)
    except zlib.error:
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
    if path.name.lower().removesuffix(".gz").endswith(STRUCTURE_SUFFIXES):
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


def is_archive_file(path: Path) -> bool:
    """Whether this is a tar or zip archive, by its name."""
    return is_archive(path)


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
