"""Outputs of older versions load, and the same work done today gives the same results."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

import protclip
from protclip.cli.app import app
from protclip.data.corpus.store import Corpus

GOLDEN = Path(__file__).with_name("v0.1")


@pytest.fixture(scope="module")
def domains(cath_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six domains that everything is made from."""
    folder = tmp_path_factory.mktemp("golden") / "domains"
    folder.mkdir()
    for line in (GOLDEN / "sequences.fasta").read_text().splitlines():
        if line.startswith(">"):
            shutil.copy(cath_dir / "dompdb" / line[1:], folder)
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be written to, as the current folder."""
    shutil.copytree(GOLDEN, tmp_path / "v")
    monkeypatch.chdir(tmp_path / "v")
    return tmp_path / "v"


@pytest.fixture
def run() -> Callable[..., str]:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return call


def same(new: Any, old: Any, where: str = "") -> None:
    """Equal, numbers to rounding: another processor adds in another order."""
    if isinstance(old, dict):
        assert set(new) >= set(old), where
        for key in old:
            same(new[key], old[key], f"{where}/{key}")
    elif isinstance(old, (list, tuple)):
        assert len(new) == len(old), where
        for i, (a, b) in enumerate(zip(new, old, strict=True)):
            same(a, b, f"{where}[{i}]")
    elif isinstance(old, (float, np.ndarray)):
        np.testing.assert_allclose(new, old, rtol=2e-3, atol=2e-4, err_msg=where)
    else:
        assert new == old, where


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a table, cells as numbers where they are."""
    with path.open() as stream:
        lines = [line for line in stream if not line.startswith("#")]
    for row in csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ","):
        yield {key: _number(value) for key, value in row.items()}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def vectors(path: Path) -> tuple[list[str], np.ndarray]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        flat = table["embedding"].combine_chunks().flatten().to_numpy()
        return table["id"].to_pylist(), flat.reshape(len(table), -1)
    with h5py.File(path) as file:
        return file["ids"].asstr()[:].tolist(), file["embeddings"][:]


@pytest.mark.parametrize("name", ["structures.h5", "structures.parquet", "sequences.h5", "sequences.parquet"])
def test_a_model_folder_embeds_as_before(
    work: Path, domains: Path, run: Callable[..., str], name: str
) -> None:
    source = domains if name.startswith("structures") else "sequences.fasta"
    run("embed", "model", "-i", str(source), "-o", f"again-{name}", "--device", "cpu")
    same(vectors(work / f"again-{name}"), vectors(work / name), name)


def test_residue_features_are_read_and_made_as_before(work: Path, run: Callable[..., str]) -> None:
    run("embed", "model", "-i", "sequences.fasta", "-o", "again.h5", "--per-residue", "--device", "cpu")
    old, new = (protclip.Embeddings.from_hdf5(work / name) for name in ("residues.h5", "again.h5"))
    assert len(old.residues) == 6
    same(dict(new.residues), dict(old.residues))


def test_shards_of_before_are_merged(work: Path, run: Callable[..., str]) -> None:
    run("merge", "shards", "-o", "again.parquet")
    assert pq.read_table(work / "again.parquet").equals(pq.read_table(work / "merged.parquet"))


def test_a_corpus_of_before_is_read_and_built_again(
    work: Path, domains: Path, cath_dir: Path, run: Callable[..., str]
) -> None:
    (work / "cath").mkdir()
    shutil.copytree(domains, work / "cath" / "dompdb")
    shutil.copy(cath_dir / "cath-domain-list.txt", work / "cath")
    with Corpus.open(work / "corpus.h5") as corpus:
        assert len(corpus) == 6
        assert corpus.sequences(range(6)) == [
            line for line in (work / "sequences.fasta").read_text().splitlines() if not line.startswith(">")
        ]
        old, codes = corpus.proteins(range(6)), [str(code) for code in corpus.codes]
    run("data", "build", "--cath", "cath", "-o", "again.h5")
    with Corpus.open(work / "again.h5") as corpus:
        for a, b in zip(corpus.proteins(range(6)), old, strict=True):
            assert (a.id, a.sequence) == (b.id, b.sequence)
            np.testing.assert_array_equal(a.ca, b.ca)
            np.testing.assert_array_equal(a.residue_number, b.residue_number)
        assert [str(code) for code in corpus.codes] == codes


def test_a_run_of_before_is_resumed_to_its_end(work: Path, run: Callable[..., str]) -> None:
    run("pretrain", "--out", "unfinished", "--resume")
    check_run(work / "unfinished", work / "run")


def test_a_config_of_before_repeats_the_run(work: Path, run: Callable[..., str]) -> None:
    run("pretrain", "--config", "run/config.toml", "--out", "again")
    check_run(work / "again", work / "run")


def check_run(new: Path, old: Path) -> None:
    same(list(rows(new / "log.csv")), list(rows(old / "log.csv")), "log.csv")
    same(list(rows(new / "ranks.csv")), list(rows(old / "ranks.csv")), "ranks.csv")
    same(json.loads((new / "split.json").read_text()), json.loads((old / "split.json").read_text()))
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (new, old)]
    same(metrics[0]["retrieval"], metrics[1]["retrieval"], "metrics.json")
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (new, old)]
    assert set(weights[0]) == set(weights[1])
    # Directions of a closed form are known up to their sign.
    for name in weights[1]:
        same(np.abs(weights[0][name]), np.abs(weights[1][name]), name)


def test_a_task_of_before_is_resumed_to_its_end(work: Path, run: Callable[..., str]) -> None:
    run("finetune", "--out", "unfinished-task", "--resume")
    check_task(work / "unfinished-task", work / "task")


def test_a_task_config_of_before_repeats_the_run(work: Path, run: Callable[..., str]) -> None:
    run("finetune", "--config", "task/config.toml", "--out", "again")
    check_task(work / "again", work / "task")


def check_task(new: Path, old: Path) -> None:
    same(list(rows(new / "log.csv")), list(rows(old / "log.csv")), "log.csv")
    same(list(rows(new / "per_class.tsv")), list(rows(old / "per_class.tsv")), "per_class.tsv")
    for name, value in load_file(old / "head" / "model.safetensors").items():
        same(load_file(new / "head" / "model.safetensors")[name], value, name)


def test_a_head_of_before_predicts_as_before(work: Path, domains: Path, run: Callable[..., str]) -> None:
    run("predict", "task", "-i", str(domains), "-o", "again.tsv", "--device", "cpu")
    same(list(rows(work / "again.tsv")), list(rows(work / "predictions.tsv")))


def test_aligned_vectors_of_before_load(work: Path, run: Callable[..., str]) -> None:
    run(
        "embed",
        "aligned",
        "-i",
        "pairs/left.h5",
        "-o",
        "again.parquet",
        "--modality",
        "left",
        "--device",
        "cpu",
    )
    for new, old in zip(vectors(work / "again.parquet"), vectors(work / "aligned-left.parquet"), strict=True):
        same(new, old)
