"""``protclip info`` on one of every kind that protclip writes or reads, and on what is none of them."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer.main
from typer.testing import Result

from protclip.cli.app import app
from protclip.describe.kinds import FILES, FOLDERS, describe
from protclip.errors import DataError, ProtclipError
from protclip.files import cache_dir

Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def zoo(
    tmp_path_factory: pytest.TempPathFactory, cath_dir: Path, cli: Cli, quick: list[str], private_cache: Path
) -> Path:
    """A folder with one of every kind, each made by the command that makes it for a user."""
    zoo = tmp_path_factory.mktemp("zoo")
    (zoo / "cath" / "dompdb").mkdir(parents=True)
    shutil.copy(cath_dir / "cath-domain-list.txt", zoo / "cath")
    for file in sorted((cath_dir / "dompdb").iterdir())[:40]:
        shutil.copy(file, zoo / "cath" / "dompdb")
    small = ("--cath", zoo / "cath", "--paired", 0.5, "--steps", 3, *quick, "--batch-size", 8)
    cli("pretrain", *small, "--out", zoo / "runs" / "run")
    shutil.copytree(zoo / "runs" / "run", zoo / "unfinished")
    shutil.rmtree(zoo / "unfinished" / "model")
    (zoo / "few").mkdir()
    for name in ("1ubiA00", "5ptiA00", "1ejgA00"):
        shutil.copy(cath_dir / "dompdb" / name, zoo / "few" / f"{name}.pdb")
    (zoo / "few.fasta").write_text(">1\nMKTAYIAKQRQISF\n>2\nMKTAYIAKQRQISFVKSH\n>30.5\nMKTAYIA\n>4\nMK1\n")
    run, fasta = zoo / "runs" / "run", zoo / "few.fasta"
    for out in ("few.h5", "few.parquet"):
        cli("embed", run, "-i", fasta, "-o", zoo / out, "--device", "cpu")
    cli("embed", run, "-i", fasta, "-o", zoo / "shards", "--shard", "1/2", "--device", "cpu")
    cli("refit", run, "--method", "cca", "-o", zoo / "refitted", "--device", "cpu")
    cli("data", "build", "--cath", zoo / "few", "-o", zoo / "corpus.h5", "--workers", 1)
    task = ("--towers", "sequence", "--mode", "probe", "--epochs", 1, "--device", "cpu", "--data", "sample")
    cli("finetune", "ec", *task, "--model", run, "--out", zoo / "task")
    shutil.copytree(zoo / "task", zoo / "unfinished-task")
    shutil.rmtree(zoo / "unfinished-task" / "head")
    for out in ("o.tsv", "o.json", "o.parquet"):
        cli("predict", zoo / "task", "-i", fasta, "-o", zoo / out, "--device", "cpu")
    rng = np.random.default_rng(0)
    for name, width in (("left", 6), ("right", 5)):
        with h5py.File(zoo / f"{name}.h5", "w") as file:
            for i in range(12):  # names that look like numbers
                file[str(i)] = rng.normal(size=width).astype(np.float32)
    (zoo / "pairs.tsv").write_text("".join(f"{i}\t{i}\n" for i in range(12)))
    pair = (zoo / "left.h5", zoo / "right.h5", "--pairs", zoo / "pairs.tsv", "--method", "cca", "--dim", 2)
    pair = (*pair, "--left-name", "protein", "--right-name", "ligand")
    cli("align-vectors", *pair, "--folds", 0, "-o", zoo / "aligned")
    with h5py.File(zoo / "numbers.h5", "w") as file:
        file["ids"], file["embeddings"] = np.array([1, 2]), np.eye(2, 4, dtype=np.float32)
    write_experiment(zoo / "experiment")
    (zoo / "few.h5.parts").mkdir()
    (zoo / "few.h5.parts" / "made_by.json").write_text('{"input": "few.fasta", "modality": "sequence"}')
    (zoo / "corpus.h5.partial").mkdir()
    shutil.copy(zoo / "corpus.h5", zoo / "corpus.h5.partial" / "0a1b.h5")
    (zoo / "fetched").mkdir()
    (zoo / "fetched" / "SOURCE.json").write_text(
        json.dumps({"benchmark": "ec", "licence": "free", "files": [{"file": "a.zip", "from": "b"}]})
    )
    shutil.make_archive(str(zoo / "few"), "zip", zoo / "few")
    return zoo


def write_experiment(folder: Path) -> None:
    from protclip.experiments.catalogue import find_experiment
    from protclip.experiments.commands import Plan
    from protclip.experiments.plan_folder import save_plan

    save_plan(Plan(find_experiment("table1"), folder, given={"cath": "data/cath"}, seeds=2))
    done = folder / "runs" / "clip" / "seed-0"
    (done / "model").mkdir(parents=True)
    (folder / "runs" / "clip" / "seed-1").mkdir()


ZOO = {
    "runs/run": ("run", {"finished": "yes", "objective": "setclip", "paired": 0.5}),
    "runs/run/model": ("model", {"sides": "structure and sequence", "dim": 32}),
    "runs": ("folder of runs", {"runs": 1, "finished": 1, "newest": "run"}),
    "unfinished": ("unfinished run", {"finished": "no (step 3 in log.csv)"}),
    "cath": ("CATH folder", {"domains": 40}),
    "few": ("folder of structures", {"domains": 3}),
    "few/1ubiA00.pdb": ("structure file", {"protein chains": 1, "residues": "1ubiA00: 76"}),
    "few.fasta": ("FASTA file", {"sequences": "3", "ids": "1, 2, 30.5", "length": "7 to 18 residues"}),
    "few.h5": ("embeddings", {"items": 3, "dim": 32, "modality": "sequence", "ids": "1, 2, 30.5"}),
    "few.parquet": ("embeddings", {"items": 3, "dim": 32, "modality": "sequence", "ids": "1, 2, 30.5"}),
    "few.h5.failed.tsv": ("list of failures", {"inputs": 1}),
    "numbers.h5": ("embeddings", {"items": 2, "dim": 4, "ids": "1, 2"}),
    "left.h5": ("embeddings of another program", {"items": 12, "dim": 6, "ids": "0, 1, 10, ..."}),
    "shards": ("shards of embeddings", {"shards": "1 of 2", "missing": "2", "dim": 32}),
    "few.h5.parts": ("unfinished embeddings", {"finished pieces": 0}),
    "refitted": ("refit model", {"dim": 32}),
    "aligned": ("aligned vectors model", {"sides": "protein (vectors) and ligand (vectors)", "pairs": 12}),
    "corpus.h5": ("corpus", {"proteins": 3}),
    "corpus.h5.partial": ("unfinished corpus or benchmark", {"proteins so far": 3}),
    "task": ("task run", {"finished": "yes", "task": "ec", "mode": "probe"}),
    "unfinished-task": ("unfinished task run", {"task": "ec"}),
    "task/head": ("head", {"task": "ec", "classes": 8, "towers": "sequence"}),
    "task/config.toml": ("options", {"of": "a fine-tuning", "task": "ec"}),
    "runs/run/config.toml": ("options", {"of": "a pretraining", "objective": "setclip"}),
    "experiment/experiment.toml": ("options", {"of": "an experiment", "experiment": "table1"}),
    "task/per_class.tsv": ("file of a run", {"holds": "scores of every class"}),
    "runs/run/model/model.safetensors": ("file of a run", {"holds": "weights"}),
    "o.tsv": ("predictions", {"rows": 15, "warning": "demonstration, no benchmark"}),
    "o.json": ("predictions", {"proteins": 3}),
    "o.parquet": ("predictions", {"rows": 15}),
    "experiment": ("experiment", {"experiment": "table1", "runs finished": "1 of 2 begun"}),
    "fetched": ("download", {"benchmark": "ec", "licence": "free"}),
    "few.zip": ("archive", {"files": 3}),
}


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_is_known(name: str, zoo: Path, cli: Cli) -> None:
    kind, facts = ZOO[name]
    shown = cli("info", zoo / name).output
    found = json.loads(cli("info", zoo / name, "--json").output)
    assert found["kind"] == kind
    assert {key: found[key] for key in facts} == facts
    assert shown.startswith(f"kind: {kind}\n")
    assert found["made"].split(", ")[-1].startswith("20")  # at least when
    assert len(shown.splitlines()) <= 14


@pytest.mark.parametrize(
    ("name", "kind"), [("cache", "cache"), ("part", "part of the cache"), ("sample", "benchmark")]
)
def test_what_lies_in_the_cache(name: str, kind: str, zoo: Path) -> None:
    path = {
        "cache": cache_dir(),
        "part": cache_dir() / "benchmarks",
        "sample": next(iter(sorted((cache_dir() / "benchmarks").glob("sample-ec-*.h5")))),
    }[name]
    found = describe(path)
    assert found["kind"] == kind
    assert found["next"] or name == "part"
    if name == "sample":
        assert "no benchmark" in found["note"]


def test_no_kind_is_left_untried() -> None:
    tried = {kind for kind, _ in ZOO.values()} | {"cache", "part of the cache", "benchmark"}
    assert {kind.name for kind in (*FOLDERS, *FILES)} == tried


@pytest.mark.parametrize("name", ZOO)
def test_the_commands_are_commands_with_such_options(name: str, zoo: Path) -> None:
    group: Any = typer.main.get_command(app)
    for text in describe(zoo / name)["next"]:
        program, *arguments = shlex.split(text)
        if program == "python":
            compile(arguments[1], "next", "exec")
            continue
        assert program == "protclip"
        known = group
        while arguments and arguments[0] in getattr(known, "commands", {}):
            known = known.commands[arguments.pop(0)]
        options = {
            flag for parameter in known.params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        assert known is not group, text
        assert {word for word in arguments if word.startswith("-")} <= options, text


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n....", "a PNG picture"),
        (b"PAR1....PAR1", "a Parquet file"),
        (b"name\tvalue\n1\t2\n", "text in 2 columns that begins with 'name"),
        (b"<html></html>", "a web page"),
        (b"\xff\xfe\x00\x01", "a file that is no text"),
    ],
)
def test_what_is_none_of_ours_is_told_by_its_looks(content: bytes, looks: str, tmp_path: Path) -> None:
    file = tmp_path / "thing.dat"
    file.write_bytes(content)
    with pytest.raises(DataError, match="nothing that protclip writes or reads") as caught:
        describe(file)
    assert looks in str(caught.value)


def test_folders_that_are_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an empty folder"):
        describe(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    with pytest.raises(DataError, match=r"a folder with 2 \.png"):
        describe(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        describe(tmp_path / "none")


WRONG = {
    (".toml", "numbers"): b"task = 1\nhead = 3\nmodel = 1\ntrain = 2\nsource = 5\nexperiment = 6\n",
    (".toml", "lists"): b"task = []\nhead = [3]\nmodel = [1]\ntrain = [2]\nsource = []\nexperiment = [1]\n",
    (".json", "numbers"): b'{"benchmark": 3, "headline": 4, "files": 1, "retrieval": 2, "input": 5}',
    (".json", "lists"): b'{"benchmark": [3], "headline": [], "files": [1], "predictions": [1], "input": []}',
}


def damage(path: Path, how: str) -> None:
    """Cut a file in half, or fill it with entries of the right names and the wrong types."""
    body = path.read_bytes()
    path.write_bytes(WRONG.get((path.suffix, how), body[: len(body) // 2]))


@pytest.mark.parametrize("how", ["half", "numbers", "lists"])
@pytest.mark.parametrize("name", ZOO)
def test_what_is_damaged_is_described_or_refused_in_a_sentence(
    name: str, how: str, zoo: Path, tmp_path: Path
) -> None:
    kept = tmp_path / Path(name).name
    (shutil.copytree if (zoo / name).is_dir() else shutil.copy)(zoo / name, kept)
    for file in [path for path in kept.rglob("*") if path.is_file()] if kept.is_dir() else [kept]:
        damage(file, how)
    try:
        assert describe(kept)["kind"]
    except ProtclipError as error:
        assert kept.name in str(error)  # noqa: PT017 (either will do)
