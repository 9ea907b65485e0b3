"""What is built or fetched once and read by many runs: corpora, benchmarks, downloads, the cache."""

from __future__ import annotations

import itertools
from pathlib import Path

from protclip.describe.description import Description, command, json_table, made, version
from protclip.describe.embedding_files import hdf5_names
from protclip.files import cache_dir

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
