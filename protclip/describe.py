"""What a path is: model, run, corpus, benchmark, embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protclip.errors import DataError, ProtclipError
from protclip.files import read_toml


def describe(path: Path) -> dict[str, Any]:
    """Facts of a model folder, run folder, corpus file, benchmark file or embeddings file.

    Raises
    ------
    DataError
        If it is none of these.
    """
    if not path.exists():
        raise DataError("no such file or folder", where=str(path))
    if path.is_dir():
        return _folder(path)
    return _file(path)


def _folder(path: Path) -> dict[str, Any]:
    if (path / "model.safetensors").exists():
        config = read_toml(path / "config.toml")
        if "head" in config:
            return _head(config)
        sides = [side["modality"] for side in config.get("model", {}).get("sides", [])]
        training = {k: v for k, v in config.get("training", {}).items() if not isinstance(v, (list, dict))}
        return {
            "kind": "model",
            "sides": " and ".join(sides),
            "dim": config.get("model", {}).get("dim"),
            **training,
        }
    if (path / "config.toml").exists():
        config = read_toml(path / "config.toml")
        if "task" in config:
            return _task_run(path, config)
        train = config.get("train", {})
        facts: dict[str, Any] = {
            "kind": "run",
            "objective": train.get("objective"),
            "seed": train.get("seed"),
        }
        facts["finished"] = "yes" if (path / "model").exists() else "no"
        if (path / "metrics.json").exists():
            facts["retrieval"] = json.loads((path / "metrics.json").read_text()).get("retrieval")
        return facts
    from protclip.data.corpus.cath import find_cath  # only for folders of files

    found = find_cath(path)
    return {"kind": "CATH folder", "domains": len(found.files), "list": found.list_path or "none"}


def _head(config: dict[str, Any]) -> dict[str, Any]:
    head, training = config["head"], config.get("training", {})
    sides = [side["modality"] for side in config.get("network", {}).get("sides", [])]
    return {
        "kind": "head",
        "task": head.get("task"),
        "benchmark": head.get("benchmark"),
        "classes": len(head.get("classes", [])),
        "towers": " and ".join(sides),
        **{k: v for k, v in training.items() if not isinstance(v, (list, dict))},
        "parent": training.get("parent", {}).get("fingerprint", "none"),
    }


def _task_run(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": "run"}
    facts |= {key: config.get(key) for key in ("task", "towers", "mode", "seed")}
    facts["finished"] = "yes" if (path / "head").exists() else "no"
    if (path / "metrics.json").exists():
        facts["headline"] = json.loads((path / "metrics.json").read_text()).get("headline")
    return facts


def _file(path: Path) -> dict[str, Any]:
    from protclip.data.benchmarks.benchmark_file import (  # h5py is kept out of the other branches
        Benchmark,
        is_benchmark,
    )
    from protclip.data.corpus.store import Corpus
    from protclip.inference.embeddings import Embeddings

    if is_benchmark(path):
        with Benchmark.open(path) as benchmark:
            return {"kind": "benchmark", **benchmark.info()}
    try:
        with Corpus.open(path) as corpus:
            return {"kind": "corpus", **corpus.info()}
    except ProtclipError as not_a_corpus:
        try:
            found = Embeddings.from_hdf5(path)
        except ProtclipError:
            raise not_a_corpus from None
    return {
        "kind": "embeddings",
        "items": len(found),
        "dim": found.vectors.shape[1],
        "modality": found.modality,
    }
