"""A toy benchmark that small towers can learn: the class is written into sequence and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from protclip.config.resolve import resolve
from protclip.data.corpus.store import Corpus, write_corpus
from protclip.structure.protein import Protein

ALPHABETS = ("AELKQM", "VITFYW", "GPSND", "HRCT")


def toy_protein(id: str, group: int, rng: np.random.Generator, length: int | None = None) -> Protein:
    """A helix, strand or other regular chain whose letters come from the alphabet of its group."""
    n = length or int(rng.integers(14, 24))
    rise, turn, radius = ((1.5, 100, 2.3), (3.3, 170, 0.9), (2.9, 120, 1.6), (2.0, 72, 2.6))[group]
    t = np.arange(n)
    angle = np.deg2rad(turn) * t
    ca = np.stack([radius * np.cos(angle), radius * np.sin(angle), rise * t], 1)
    ca += rng.normal(0, 0.1, ca.shape)
    return Protein.from_ca(id, "".join(rng.choice(list(ALPHABETS[group]), n)), ca)


class FakeBenchmark:
    """The interface of a benchmark file, in memory but for its corpus."""

    is_demonstration = False

    def __init__(
        self,
        corpus: Corpus,
        task: str,
        labels: np.ndarray,
        splits: Mapping[str, list[int]],
        subsets: Mapping[str, list[int]] | None = None,
    ) -> None:
        self.corpus, self.task, self.version = corpus, task, "toy 1"
        self.ids = corpus.ids
        self.matrix = labels.astype(bool)
        self.classes = [f"c{i}" for i in range(labels.shape[1])]
        self.class_names = [f"class number {i}" for i in range(labels.shape[1])]
        self.splits = {k: np.array(v, np.int64) for k, v in splits.items()}
        self.subsets = {k: np.array(v, np.int64) for k, v in (subsets or {}).items()}
        self.missing: list[tuple[str, str]] = [("x", "no such entry")]

    def labels(self, rows: Any) -> scipy.sparse.csr_matrix:
        return scipy.sparse.csr_matrix(self.matrix[rows])

    def counts(self) -> list[tuple[str, int, int | None]]:
        return [(name, len(rows), 1000) for name, rows in self.splits.items()]

    def info(self) -> dict[str, Any]:
        return {"task": self.task}


@pytest.fixture(scope="session")
def fake_benchmark() -> type[FakeBenchmark]:
    """The class, for fixtures of other scopes."""
    return FakeBenchmark


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Eighty chains of four groups."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("toy") / "corpus.h5"
    write_corpus(path, [toy_protein(f"p{i}", i % 4, rng) for i in range(80)])
    return Corpus.open(path)


@pytest.fixture
def make_benchmark(toy_corpus: Corpus) -> Callable[..., FakeBenchmark]:
    """``make_benchmark(task)``: 48 training, 16 validation and 16 test chains (fold: 8, 4 and 4)."""

    def make(task: str = "ec", **changes: Any) -> FakeBenchmark:
        group = np.arange(80) % 4
        labels = np.eye(5, dtype=bool)[group]  # class 4 has no protein
        if task not in ("fold", "reaction"):
            labels[:, 3] |= group < 2  # a parent of classes 0 and 1
        rows = np.arange(80).tolist()
        splits: dict[str, list[int]] = {"train": rows[:48], "valid": rows[48:64]}
        subsets: dict[str, list[int]] = {}
        if task == "fold":
            splits |= {
                "test_fold": rows[64:72],
                "test_superfamily": rows[72:76],
                "test_family": rows[76:],
            }
        else:
            splits["test"] = rows[64:]
            if task != "reaction":
                subsets = {
                    "30": rows[64:70],
                    "40": rows[64:72],
                    "50": rows[64:74],
                    "70": rows[64:78],
                    "95": rows[64:],
                }
        found = FakeBenchmark(toy_corpus, task, labels, splits, subsets)
        for name, value in changes.items():
            setattr(found, name, value)
        return found

    return make


TINY = {
    "structure_size": "tiny",
    "sequence_encoder": "scratch",
    "esm_init": "random",
    "device": "cpu",
    "epochs": 6,
    "batch_size": 16,
    "recipe": "demonstration",
    "lr": 5e-3,
}


@pytest.fixture
def run_task(make_benchmark: Callable[..., FakeBenchmark], tmp_path: Path) -> Callable[..., Any]:
    """``run_task(task, **options)`` -> metrics and run folder, with tiny towers."""
    from protclip.tasks.config import FinetuneConfig
    from protclip.tasks.finetune import Finetuning

    def run(
        task: str = "ec", *, folder: str = "run", benchmark: Any = None, resume: bool = False, **options: Any
    ) -> tuple[dict[str, Any], Path]:
        config = resolve(FinetuneConfig, {"task": task, **TINY, **options})
        out = tmp_path / folder
        made = benchmark if benchmark is not None else make_benchmark(task)
        return Finetuning(config, out, lambda: made).run(resume=resume), out

    return run
