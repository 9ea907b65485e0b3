"""The worked example of docs/adapters.md, as another package: installed, aligned, saved, loaded, used."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protclip.errors import ConfigError
from protclip.inference.embeddings import Embeddings

Cli = Callable[..., Any]
ATOMS = "CNOSPF"
POINTS = 100


def blocks(repository: Path, language: str) -> list[str]:
    """Code blocks of the page in one language."""
    text = (repository / "docs" / "adapters.md").read_text(encoding="utf-8")
    return [part.split("```")[0] for part in text.split(f"```{language}\n")[1:]]


@pytest.fixture(scope="module")
def package(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``sys.path`` with the example as an installed distribution."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "spectra_molecules.py").write_text(blocks(repository, "python")[0])
    toml = blocks(repository, "toml")[0].strip().splitlines()
    assert toml[0] == '[project.entry-points."protclip.modalities"]'
    info = folder / "spectra_molecules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spectra-molecules\nVersion: 1.0\n")
    lines = [line.replace('"', "") for line in toml[1:]]
    (info / "entry_points.txt").write_text("\n".join(["[protclip.modalities]", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 molecules; a spectrum has a peak for every pair of neighbouring atoms, as high as it is common."""
    folder = tmp_path_factory.mktemp("items")
    rng = np.random.default_rng(0)
    spectra, molecules, pairs = [], [], []
    for i in range(240):
        smiles = "".join(rng.choice(list(ATOMS), rng.integers(6, 14)))
        values = rng.normal(0, 0.02, POINTS)
        for a, b in itertools.pairwise(smiles):
            values[3 * (len(ATOMS) * ATOMS.index(a) + ATOMS.index(b)) % POINTS] += 1
        spectra.append(",".join([f"s{i}", *(f"{x:.4f}" for x in values)]))
        molecules.append(f"m{i}\t{smiles}")
        pairs.append(f"s{i}\tm{i}")
    spectra.append("s999,1.0,2.0")  # too short: listed as unreadable, its partner is unpaired
    molecules.append("m999\tCCCCNO")
    pairs.append("s999\tm999")
    molecules = [molecules[i] for i in rng.permutation(len(molecules))]
    for name, lines in (("left.csv", spectra), ("right.tsv", molecules), ("pairs.tsv", pairs)):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_the_example_is_short(repository: Path) -> None:
    assert len(blocks(repository, "python")[0].splitlines()) < 60


def test_aligned_from_the_command_line(
    package: Path, items: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(package))
    run = tmp_path / "run"
    said = cli(
        *("align", "--pairs", items, "--left", "spectrum", "--right", "molecule", "--out", run),
        *("--left-option", f"points={POINTS}", "--paired", "1", "--epochs", "25", "--batch-size", "32"),
        *("--objective", "clip", "--dim", "32", "--device", "cpu"),
    ).output
    assert "1 spectrum items left out: not 100 points (the first is s999)" in " ".join(said.split())
    metrics = json.loads((run / "metrics.json").read_text())["retrieval"]
    assert metrics["gallery"] == 60
    assert metrics["spectrum_to_molecule"]["R@5"] > 0.28  # chance is 0.083
    assert "spectrum and molecule" in (run / "model" / "README.md").read_text()
    said = cli("evaluate", run, "--json").output
    again = json.loads(said[said.index("{") : said.rindex("}") + 1])["retrieval"]
    assert again["molecule_to_spectrum"] == pytest.approx(metrics["molecule_to_spectrum"])
    out = tmp_path / "vectors.h5"
    cli("embed", run, "--modality", "molecule", "-i", items / "right.tsv", "-o", out)
    assert len(Embeddings.from_hdf5(out)) == 241


def test_an_unknown_option_of_the_adapter_is_named(
    package: Path, items: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(package))
    with pytest.raises(ConfigError, match=r"pionts.*points, noise"):
        cli(
            *("align", "--pairs", items, "--left", "spectrum", "--right", "molecule"),
            *("--left-option", "pionts=100", "--out", tmp_path / "x"),
        )


@pytest.mark.slow
def test_another_process_finds_the_package(package: Path, items: Path, tmp_path: Path) -> None:
    paths = [str(package), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "protclip", "align", "--pairs", str(items), "--epochs", "1"),
            *("--left", "spectrum", "--right", "molecule", "--out", str(tmp_path / "run")),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_aligned_from_python(
    package: Path, items: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(package))
    code = (
        blocks(repository, "python")[1]
        .replace("runs/spectra", str(tmp_path / "run"))
        .replace("DIR", str(items))
    )
    code = code.replace('"paired": 0.5', '"paired": 0.5, "epochs": 1, "dim": 16')
    found: dict[str, object] = {}
    exec(code, found)
    assert found["scores"].metrics["retrieval"]["gallery"] == 60  # type: ignore[attr-defined]
    import protclip as library

    model = library.load(tmp_path / "run")
    assert model.embed("molecule", items / "right.tsv").vectors.shape == (241, 16)
