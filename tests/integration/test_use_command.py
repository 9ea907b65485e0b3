"""Using a trained model: embed, evaluate, info, and the same from Python."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import protclip
from protclip.errors import ConfigError, DataError, ProtclipError, WeightsError
from protclip.inference.embeddings import Embeddings
from protclip.inference.to_file import embed_to_file
from protclip.structure import Protein, read_structure

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def model(run_folder: Path) -> protclip.AlignedModel:
    return protclip.load(run_folder, device="cpu")


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "proteins.fasta"
    path.write_text(
        ">one some words\nMKTAYIAKQRQISFVKSHFSRQ\n>two\nGAVLIMFP\n>same\nMKTAYIAKQRQISFVKSHFSRQ\n"
    )
    return path


def test_load_takes_the_newest_run_and_says_which(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"protclip pretrain --cath.*protclip\.load\(\"path/to/model\"\)"):
        protclip.load(device="cpu")
    (tmp_path / "runs" / "stopped").mkdir(parents=True)
    (tmp_path / "runs" / "stopped" / "config.toml").write_text("[train]\nsteps = 3\n")
    shutil.copytree(run_folder, tmp_path / "runs" / "first", copy_function=shutil.copy2)
    model = protclip.load(device="cpu")
    assert repr(model).endswith("on cpu, from runs/first/model)")
    said = capsys.readouterr().err
    assert "the newest finished run is runs/first; passed over as not finished: stopped" in said


def test_python_sequences(model: protclip.AlignedModel, fasta: Path) -> None:
    found = model.embed_sequences(fasta)
    assert found.ids == ["one", "two", "same"]
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["one"], found["same"])
    again = model.embed_sequences({"x": "GAVLIMFP"})
    np.testing.assert_allclose(again["x"], found["two"], atol=1e-5)  # whatever else is in the batch
    assert model.embed_sequences(["GAVLIMFP"]).ids == ["0"]


def test_python_structures(model: protclip.AlignedModel, cath_dir: Path) -> None:
    files = sorted((cath_dir / "dompdb").iterdir())[:3]
    found = model.embed_structures(files, per_residue=True)
    assert found.ids == [f.name for f in files]
    protein = read_structure(files[1])
    assert isinstance(protein, Protein)
    np.testing.assert_allclose(model.embed_structures(protein).vectors[0], found.vectors[1], atol=1e-5)
    assert found.residues[files[1].name].shape[0] == len(protein)
    moved = protein.coords @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(np.float32)
    turned = Protein(protein.id, protein.sequence, moved + 7, protein.residue_number, protein.insertion_code)
    if np.linalg.det(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]) > 0:
        np.testing.assert_allclose(model.embed_structures(turned).vectors[0], found.vectors[1], atol=1e-4)


def test_python_failures_are_listed_not_dropped(
    model: protclip.AlignedModel, cath_dir: Path, tmp_path: Path
) -> None:
    shutil.copy(cath_dir / "dompdb" / "1lcdA00", tmp_path / "good.pdb")
    (tmp_path / "empty.pdb").write_text("")
    with pytest.warns(UserWarning, match="1 of the inputs could not be embedded"):
        found = model.embed_structures(tmp_path)
    assert found.ids == ["good"]
    assert list(found.failed) == ["empty.pdb"]
    with pytest.raises(DataError, match=r"nothing could be embedded; got empty\.pdb"):
        model.embed_structures(tmp_path / "empty.pdb")
    with pytest.raises(ProtclipError, match="the input: this cannot be read as structure; got 3"):
        model.embed_structures(3)
    with pytest.raises(DataError, match="the input is empty"):
        model.embed_sequences([])
    with pytest.warns(UserWarning, match="1 of the inputs"):
        assert "bad: residue 3" in next(
            iter(model.embed_sequences({"ok": "MKV", "bad": "MK!V"}).failed.values())
        )


def test_bad_records_of_a_fasta_file_are_listed(
    model: protclip.AlignedModel, run_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    path = tmp_path / "mixed.fasta"
    path.write_text(">a\nMKTAY\n>b\nMK1\n>none\n>a\nM!\n>b\nGG\n>c\nGAVL\n")
    result = cli("embed", run_folder, "-i", path, "-o", tmp_path / "out.h5", "--device", "cpu")
    assert "6 inputs: 2 embedded, 2 skipped, 2 failed, listed in" in " ".join(result.output.split())
    assert Embeddings.from_hdf5(tmp_path / "out.h5").ids == ["a", "c"]
    failed = dict(row.split("\t") for row in (tmp_path / "out.h5.failed.tsv").read_text().splitlines()[1:])
    # The good record "a" is not called bad for its namesake's sake, nor is a second "b" taken for the first.
    assert sorted(failed) == ["a (again)", "b", "b (again)", "none"]
    assert failed["b"].startswith(f"{path}:4: not a residue letter")
    assert failed["none"].startswith(f"{path}:5: record without a sequence")
    path.write_text("Dear all,\n>a\nMKTAY\n")
    with pytest.raises(DataError, match="not a FASTA file"):
        model.embed_sequences(path)


def test_embeddings_go_to_every_file_format(
    model: protclip.AlignedModel, fasta: Path, tmp_path: Path
) -> None:
    import pandas as pd

    found = model.embed_sequences(fasta)
    assert repr(found) == "Embeddings(3 x 32, sequence: one, two, same)"
    frame = found.to_pandas()
    assert frame.shape == (3, 32)
    assert list(frame.index) == found.ids
    found.to_hdf5(tmp_path / "e.h5")
    back = Embeddings.from_hdf5(tmp_path / "e.h5")
    np.testing.assert_array_equal(back.vectors, found.vectors)
    found.to_parquet(tmp_path / "e.parquet")
    table = pd.read_parquet(tmp_path / "e.parquet")
    np.testing.assert_array_equal(np.stack(table["embedding"]), found.vectors)
    with pytest.raises(DataError, match="no such id"):
        found["three"]
    with pytest.raises(DataError, match="not an embeddings file"):
        Embeddings.from_hdf5(fasta)


def test_a_stream_tells_of_every_batch(model: protclip.AlignedModel, fasta: Path) -> None:
    told: list[int] = []
    (window,) = model.stream("sequence", fasta, done=told.append)
    assert window.ids == ["one", "two", "same"]
    assert sum(told) == 2  # equal items are computed once


def test_parquet_files_have_no_dictionary_of_vectors(
    model: protclip.AlignedModel, fasta: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    model.embed_sequences(fasta).to_parquet(tmp_path / "list.parquet")
    embed_to_file(model, "sequence", fasta, tmp_path / "file.parquet")
    for path in tmp_path.glob("*.parquet"):
        group = pq.ParquetFile(path).metadata.row_group(0)
        assert [group.column(i).has_dictionary_page for i in range(group.num_columns)] == [False, False]


def test_embed_command_equals_python(
    model: protclip.AlignedModel, run_folder: Path, fasta: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out.h5"
    result = cli("embed", run_folder, "-i", fasta, "-o", out, "--device", "cpu")
    assert "3 embedded" in result.output
    np.testing.assert_allclose(
        Embeddings.from_hdf5(out).vectors, model.embed_sequences(fasta).vectors, atol=1e-6
    )
    assert not list(tmp_path.glob("*.parts"))
    assert "kind: embeddings" in cli("info", out).output


def test_embed_command_lists_failures_and_knows_structures(
    run_folder: Path, cath_dir: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "structures"
    folder.mkdir()
    for name in ("1lcdA00", "2xcjA00"):
        shutil.copy(cath_dir / "dompdb" / name, folder / f"{name}.pdb")
    (folder / "broken.cif").write_text("data_x\n_cell.length_a 1\n")
    out = tmp_path / "out.parquet"
    result = cli("embed", run_folder, "-i", folder, "-o", out, "--device", "cpu")
    assert "3 inputs: 2 embedded, 0 skipped, 1 failed" in " ".join(result.output.split())
    lines = (tmp_path / "out.parquet.failed.tsv").read_text().splitlines()
    assert lines[0] == "id\treason"
    assert lines[1].startswith("broken.cif\t")


def test_embed_refusals(run_folder: Path, fasta: Path, tmp_path: Path, cli: Cli) -> None:
    with pytest.raises(ConfigError, match=r"unknown output format"):
        cli("embed", run_folder, "-i", fasta, "-o", tmp_path / "out.txt")
    with pytest.raises(DataError, match="no such file"):
        cli("embed", run_folder, "-i", tmp_path / "none.fasta", "-o", tmp_path / "out.h5")
    (tmp_path / "note.docx").write_text("hello")
    with pytest.raises(ConfigError, match="cannot tell which modality"):
        cli("embed", run_folder, "-i", tmp_path / "note.docx", "-o", tmp_path / "out.h5")
    with pytest.raises(ConfigError, match="no such side"):
        cli("embed", run_folder, "-i", fasta, "-o", tmp_path / "out.h5", "--modality", "smell")


@pytest.mark.slow
def test_embed_survives_kill_9(run_folder: Path, tmp_path: Path, command: list[str], cli: Cli) -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    many = tmp_path / "many.fasta"
    many.write_text("".join(f">s{i}\n{''.join(rng.choice(letters, 60))}\n" for i in range(9000)))
    out = tmp_path / "out.h5"
    arguments = ["embed", str(run_folder), "-i", str(many), "-o", str(out), "--device", "cpu"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while (
        not list(tmp_path.glob("out.h5.parts/*.npz"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists(), "the command ended before it could be killed"
    (tmp_path / "other.fasta").write_text(">a\nMKV\n")
    with pytest.raises(
        ConfigError, match="an interrupted run of another kind is in the way; got another input"
    ):
        cli("embed", run_folder, "-i", tmp_path / "other.fasta", "-o", out, "--device", "cpu")
    result = cli(*arguments)
    text = " ".join(result.output.split())
    assert re.search(r"9000 inputs: 9000 embedded \((2048|4096|6144|8192) of them by an earlier", text)
    found = Embeddings.from_hdf5(out)
    assert found.ids == [f"s{i}" for i in range(9000)]
    assert np.isfinite(found.vectors).all()


def test_evaluate_repeats_the_scores_of_the_run(run_folder: Path, cath_dir: Path, cli: Cli) -> None:
    result = cli("evaluate", run_folder / "model", "--cath", cath_dir, "--json", "--device", "cpu")
    assert (
        json.loads(result.stdout)["retrieval"]
        == json.loads((run_folder / "metrics.json").read_text())["retrieval"]
    )
    table = cli("evaluate", run_folder / "model", "--split", "all", "--gallery", 50, "--device", "cpu").output
    assert "in blocks of 50" in table
    assert "chance" in table


def test_evaluate_leaves_trained_superfamilies_out_of_another_corpus(
    run_folder: Path, cath_dir: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "other"
    (folder / "dompdb").mkdir(parents=True)
    split = json.loads((run_folder / "split.json").read_text())
    for id in (*split["train"][:5], *split["test"][:6]):
        shutil.copy(cath_dir / "dompdb" / id, folder / "dompdb")
    shutil.copy(cath_dir / "cath-domain-list.txt", folder)
    result = cli("evaluate", run_folder, "--cath", folder, "--json", "--device", "cpu")
    assert json.loads(result.stdout)["retrieval"]["gallery"] == 6
    assert "5 of 11 domains belong to superfamilies of the training set" in " ".join(result.stderr.split())


def test_info_describes_everything(run_folder: Path, cath_dir: Path, tmp_path: Path, cli: Cli) -> None:
    assert "kind: model" in cli("info", run_folder / "model").output
    assert "finished: yes" in cli("info", run_folder).output
    assert "domains: 168" in cli("info", cath_dir).output
    with pytest.raises(DataError, match="no such file"):
        cli("info", tmp_path / "nothing")


@pytest.mark.parametrize(
    "damage", ["truncated weights", "foreign config", "newer format", "missing", "mixed"]
)
def test_damaged_model_folders_are_refused(damage: str, run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run_folder / "model", folder)
    config, weights = folder / "config.toml", folder / "model.safetensors"
    if damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "foreign config":
        config.write_text("[tool]\nname = 'x'\n")
    elif damage == "newer format":
        config.write_text(config.read_text().replace("format_version = 1", "format_version = 99"))
    elif damage == "missing":
        weights.unlink()
    else:
        config.write_text(config.read_text().replace("dim = 32", "dim = 64"))
    with pytest.raises(WeightsError) as caught:
        protclip.load(folder, device="cpu")
    assert str(folder) in str(caught.value)


def test_errors_end_in_one_line_and_exit_code_2(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run(
        [*command, "info", str(tmp_path / "none")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_vector_file_of_our_own_output_can_be_a_side(
    run_folder: Path, cath_dir: Path, tmp_path: Path, quick: list[str], cli: Cli
) -> None:
    """What ``embed`` writes is what ``--vectors`` reads."""
    cli("embed", run_folder, "-i", cath_dir / "dompdb", "-o", tmp_path / "v.h5", "--device", "cpu")
    with h5py.File(tmp_path / "v.h5") as f:
        assert len(f["ids"]) == 168
    run = tmp_path / "run"
    cli("pretrain", "--cath", cath_dir, "--vectors", tmp_path / "v.h5", "--steps", 1, "--out", run, *quick)


def test_long_chains_are_embedded_whole_and_said(run_folder: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "long.fasta").write_text(">titin\n" + "MKTAYIAKQR" * 150 + "\n>short\nMKTAYIAKQR\n")
    out = tmp_path / "out.h5"
    result = cli(
        "embed", run_folder, "-i", tmp_path / "long.fasta", "-o", out, "--per-residue", "--device", "cpu"
    )
    assert "1 longer than 1022 residues, embedded in overlapping windows" in result.output
    assert Embeddings.from_hdf5(out).residues["titin"].shape[0] == 1500
