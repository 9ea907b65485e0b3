"""``protclip align-vectors`` from two files to a model that embeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import protclip
from protclip.alignment import TransportAlignment
from protclip.cli.app import app
from protclip.data.files.vector_file import VectorFile
from protclip.data.paired.pair_list import read_pairs
from protclip.errors import ConfigError, DataError
from protclip.files import read_toml
from protclip.inference.embeddings import Embeddings

N = 60


def cli(*arguments: object, ok: bool = True) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=not ok)
    if ok:
        assert result.exit_code == 0, result.output
    return result


def write(path: Path, ids: list[str], vectors: np.ndarray) -> Path:
    with h5py.File(path, "w") as f:
        f.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
        f.create_dataset("embeddings", data=vectors.astype(np.float32))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, 4)) ** 3
    left = write(tmp_path / "l.h5", [f"p{i}" for i in range(N)], z @ rng.normal(size=(4, 9)) + 2)
    right = write(
        tmp_path / "r.h5", [f"q{i}" for i in range(N)][::-1], (z @ rng.normal(size=(4, 7)))[::-1] - 1
    )
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("protein\ttext\n" + "".join(f"p{i}\tq{i}\n" for i in range(12)))
    return left, right, pairs


def test_from_files_to_a_model_that_embeds(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    left, right, pairs = files
    out = tmp_path / "model"
    result = cli(
        *("align-vectors", left, right, "--pairs", pairs, "-o", out, "--dim", 4, "--rounds", 3),
        *("--left-name", "protein", "--right-name", "text"),
    )
    assert "12 pairs, 48 and 48 unpaired" in result.output
    assert "pairs held out" in result.output
    assert "chance" in result.output
    model = protclip.load(out, device="cpu")
    found = model.embed("protein", left), model.embed("text", right)
    assert found[0].ids[:2] == ["p0", "p1"]
    same = TransportAlignment(dim=4, rounds=3)
    with VectorFile.open(left) as x, VectorFile.open(right) as y:
        rows = x[x.ids], y[y.ids]
    same.fit(*rows, [[i, N - 1 - i] for i in range(12)])
    np.testing.assert_allclose(found[0].vectors, same.transform_left(rows[0]), atol=1e-5)
    np.testing.assert_allclose(found[1].vectors, same.transform_right(rows[1]), atol=1e-5)
    near = (found[0].vectors @ found[1].vectors[::-1].T).argmax(1)
    assert (near == np.arange(N)).mean() > 0.5

    more = write(tmp_path / "more.h5", ["new"], rows[0][5:6])
    cli("embed", out, "-i", more, "-o", tmp_path / "e.h5", "--modality", "protein")
    np.testing.assert_allclose(Embeddings.from_hdf5(tmp_path / "e.h5")["new"], found[0].vectors[5], atol=1e-6)
    facts = read_toml(out / "config.toml")["training"]
    assert facts["objective"] == "transport"
    assert facts["settings"]["rounds"] == 3
    assert facts["scores"]["held_out"] is True
    assert facts["scores"]["median_rank"] < facts["scores"]["chance_median_rank"] / 3
    assert len(facts["rounds"]) == 3
    card = (out / "README.md").read_text()
    assert "protein" in card
    assert "R@10" in card
    assert "model" in cli("info", out).output


def test_cca_select_and_other_switches(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    left, right, pairs = files
    result = cli(
        *("align-vectors", left, right, "--pairs", pairs, "-o", tmp_path / "a"),
        *("--method", "cca", "--select", "--no-standardise"),
    )
    assert "Chosen on held-out pairs: ridge" in result.output
    facts = read_toml(tmp_path / "a" / "config.toml")["training"]
    assert facts["objective"] == "cca"
    assert facts["settings"]["standardise"] is False
    assert facts["settings"]["select"] is False  # the settings are those that were chosen
    assert (protclip.load(tmp_path / "a", device="cpu").towers.encoders["left"].deviation == 1).all()
    cli(
        *("align-vectors", left, right, "--pairs", pairs, "-o", tmp_path / "b", "--unbalanced", 0.3),
        *("--ridge", 1, "--epsilon", 0.2, "--weight", 2, "--rounds", 2, "--seed", 3),
    )
    settings = read_toml(tmp_path / "b" / "config.toml")["training"]["settings"]
    wanted = {"unbalanced": 0.3, "ridge": 1, "epsilon": 0.2, "weight": 2, "rounds": 2, "seed": 3}
    assert {key: settings[key] for key in wanted} == wanted


def test_three_pairs_are_scored_on_themselves_and_say_so(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    left, right, pairs = files
    pairs.write_text("p0 q0\np1 q1\np2 q2\n")
    result = cli("align-vectors", left, right, "--pairs", pairs, "-o", tmp_path / "m", "--rounds", 1)
    assert "these numbers flatter" in result.output
    assert read_toml(tmp_path / "m" / "config.toml")["training"]["scores"]["held_out"] is False
    with pytest.raises(ConfigError, match="too few pairs to hold some out"):
        cli("align-vectors", left, right, "--pairs", pairs, "-o", tmp_path / "n", "--select")
    assert not (tmp_path / "n").exists()


IDS = (["a", "b", "c"], ["A", "B", "C"])


def read(path: Path, text: str) -> list[Any]:
    path.write_text(text)
    rows: list[Any] = read_pairs(path, IDS, (Path("l.h5"), Path("r.h5"))).tolist()
    return rows


@pytest.mark.parametrize(
    "text",
    [
        "a\tB\nc\tA\n",
        "left\tright\na\tB\nc\tA",
        "\ufeffa\tB\r\n\r\nc\tA\r\n",
        "# what it is\nleft right\na B\n  c   A\n",
    ],
)
def test_pairs_with_and_without_header(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "p.tsv", text) == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\ty\na\tA\nz\tB\n", r"p\.tsv:3: no such id in l\.h5; got 'z', expected ids such as a, b, c"),
        ("a\tA\nb\tz\n", r"p\.tsv:2: no such id in r\.h5; got 'z'"),
        ("a\tz\nb\tB\n", r"p\.tsv:1: no such id in r\.h5"),
        ("a\tA\nB\tb\n", r"p\.tsv:2: .*columns may be swapped"),
        ("a\tA\nb\tB\na\tA\n", r"p\.tsv:3: an id is in several pairs; got 'a', also in line 1"),
        ("a\tA\nb\tA\n", r"p\.tsv:2: an id is in several pairs; got 'A', also in line 1"),
        ("a\tA\nb\tB\t0.5\n", r"p\.tsv:2: not a pair; got 3 columns"),
        ("a\tA\nb\n", r"p\.tsv:2: not a pair; got 1 columns"),
    ],
)
def test_bad_pairs_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "p.tsv", text)


@pytest.mark.parametrize("text", ["", "left\tright\n", "a\tA\n"])
def test_too_few_pairs(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.tsv: too few pairs; got [01], expected at least 2"):
        read(tmp_path / "p.tsv", text)


def test_bad_files(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    left, right, pairs = files
    out = tmp_path / "m"

    def fails(kind: type[Exception], match: str, *arguments: object) -> None:
        with pytest.raises(kind, match=match):
            cli("align-vectors", *arguments)
        assert not out.exists()

    fails(DataError, "nowhere", left, tmp_path / "nowhere.h5", "--pairs", pairs, "-o", out)
    fails(DataError, "cannot be read", left, right, "--pairs", tmp_path / "no.tsv", "-o", out)
    broken = np.ones((N, 7))
    broken[3, 1] = np.nan
    write(tmp_path / "nan.h5", [f"q{i}" for i in range(N)], broken)
    fails(DataError, "q3: vector is not finite", left, tmp_path / "nan.h5", "--pairs", pairs, "-o", out)
    fails(ConfigError, "two names", left, right, "--pairs", pairs, "-o", out, "--left-name", "right")
    fails(ConfigError, "method: unknown", left, right, "--pairs", pairs, "-o", out, "--method", "x")
    with pytest.raises(ConfigError, match="something is there already"):
        cli("align-vectors", left, right, "--pairs", pairs, "-o", tmp_path)


def test_vectors_of_another_length_are_refused_by_the_model(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    left, right, pairs = files
    cli("align-vectors", left, right, "--pairs", pairs, "-o", tmp_path / "m", "--rounds", 1)
    with pytest.raises(DataError, match=r"not a vector of this model; got \[7\], expected \[9\] numbers"):
        protclip.load(tmp_path / "m", device="cpu").embed("left", right)


@pytest.mark.slow
def test_side_information_and_rivals(tmp_path: Path) -> None:
    """Numbers reach the plan and the card; rivals are saved; maps that are not linear are refused."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 4))
    ids = [f"i{k}" for k in range(40)]
    for name, d in (("a.h5", 7), ("b.h5", 5)):
        with h5py.File(tmp_path / name, "w") as file:
            file["ids"] = ids
            file["embeddings"] = (z @ rng.normal(size=(4, d))).astype(np.float32)
    (tmp_path / "pairs.tsv").write_text("".join(f"{i}\t{i}\n" for i in ids[:8]))
    (tmp_path / "sizes.tsv").write_text("id\tsize\n" + "".join(f"{i}\t{k}\n" for k, i in enumerate(ids)))
    base = [str(tmp_path / name) for name in ("a.h5", "b.h5")] + ["--pairs", str(tmp_path / "pairs.tsv")]

    def call(*more: str) -> Any:
        return CliRunner().invoke(app, ["align-vectors", *base, "--dim", "4", *more])

    done = call("-o", str(tmp_path / "told"), "--prior", str(tmp_path / "sizes.tsv"), "--folds", "0")
    assert done.exit_code == 0, done.output
    assert "side information" in done.output
    assert "these numbers flatter" in done.output
    assert "sizes.tsv" in str(protclip.load(tmp_path / "told", "cpu").facts["sources"])
    assert "side information" in (tmp_path / "told" / "README.md").read_text()
    for method in ("mnn", "sotalign"):
        done = call("-o", str(tmp_path / method), "--method", method, "--folds", "2")
        assert done.exit_code == 0, done.output
        assert protclip.load(tmp_path / method, "cpu").facts["objective"] == method
    done = call("-o", str(tmp_path / "no"), "--method", "asif")
    assert isinstance(done.exception, ConfigError)
    assert "not linear" in str(done.exception)
    (tmp_path / "sizes.tsv").write_text("i0\t1\n")
    done = call("-o", str(tmp_path / "no"), "--prior", str(tmp_path / "sizes.tsv"))
    assert "no number for every id" in str(done.exception)
