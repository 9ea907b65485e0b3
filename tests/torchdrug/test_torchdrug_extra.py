"""torchdrug as a guest: what it changes is put back, and what is made with it equals its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from protclip.config.protein_options import ProteinOptions
from protclip.modalities.structure import StructureModality
from protclip.structure.encoders.by_name import ENCODERS
from protclip.structure.protein import Protein
from protclip.structure.torchdrug import MissingTorchdrugError, to_torchdrug
from protclip.tasks.config import FinetuneConfig

HERE = Path(__file__).resolve().parent
CHECKS = re.findall(r"^def (check_\w+)", (HERE / "checks.py").read_text(encoding="utf-8"), re.MULTILINE)

needs_torchdrug = pytest.mark.skipif(
    importlib.util.find_spec("torchdrug") is None or importlib.util.find_spec("rdkit") is None,
    reason="torchdrug is not installed; docs/torchdrug.md says how",
)


def run(script: str, *arguments: str, standins: bool, cache: Path) -> Any:
    """The JSON that a script prints last, from a process of its own."""
    path = [str(HERE / "standins")] if standins else []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])]),
        # torchdrug makes folders for what it would compile, on import.
        "TORCH_EXTENSIONS_DIR": str(cache),
        "MPLBACKEND": "agg",
    }
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_torchdrug
@pytest.mark.parametrize("standins", [False, True], ids=["compiled parts as they are", "stand-ins"])
def test_torch_is_as_before(standins, tmp_path):
    found = run("changes.py", "guest", standins=standins, cache=tmp_path)
    assert not any(found.values()), {key: value for key, value in found.items() if value}


@needs_torchdrug
def test_these_changes_would_be_seen(tmp_path):
    """The same look at a plain import finds what torchdrug does."""
    found = run("changes.py", "plain", standins=True, cache=tmp_path)
    assert {"torch.nn.Module", "torch.optim.Adam", "torch.utils.data.Dataset"} <= set(found["changed"])
    assert "torch.optim._LRScheduler" in found["added"]
    assert "torch.nn.Module" in found["made of torchdrug"]
    assert found["logging"]
    assert found["figures"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """All checks, by name: None, or what went wrong."""
    answer: dict[str, str | None] = run(
        "checks.py", standins=True, cache=tmp_path_factory.mktemp("extensions")
    )
    assert set(answer) == set(CHECKS)
    return answer


@needs_torchdrug
@pytest.mark.parametrize("check", CHECKS)
def test_with_torchdrug(check, outcome):
    assert outcome[check] is None, outcome[check]


@pytest.mark.parametrize("options", [ProteinOptions, FinetuneConfig])
def test_the_options_name_every_encoder(options):
    assert set(get_args(get_type_hints(options)["structure_encoder"])) == set(ENCODERS)


@needs_torchdrug
@pytest.mark.slow
def test_from_pretraining_to_prediction(tmp_path, cath_dir):
    """The commands, each in a process of its own; without torchdrug each says what it needs."""
    run, head = tmp_path / "run", tmp_path / "head"
    quick = ["--structure-size", "tiny", "--device", "cpu"]
    gearnet = ["--structure-encoder", "gearnet"]
    scratch = ["--sequence-encoder", "scratch", "--esm-init", "random", "--batch-size", "16", "--steps", "4"]
    sample = ["finetune", "ec", "--data", "sample", "--epochs", "2", *quick]
    command("pretrain", "--cath", cath_dir, *quick, *gearnet, *scratch, "--out", run)
    command("embed", run, "-i", cath_dir / "dompdb", "-o", tmp_path / "all.h5")
    command(*sample, "--model", run, "--out", tmp_path / "pretrained")
    command(*sample, *gearnet, "--out", head)
    command("predict", head, "-i", cath_dir / "dompdb", "-o", tmp_path / "out.tsv")
    assert "torchdrug" in (run / "model" / "README.md").read_text()
    assert (
        json.loads((head / "metrics.json").read_text())["training"]["structure_encoder"]["kind"] == "gearnet"
    )
    for arguments in (
        ("embed", run, "-i", cath_dir / "dompdb", "-o", tmp_path / "none.h5"),
        ("predict", head, "-i", cath_dir / "dompdb", "-o", tmp_path / "none.tsv"),
        (*sample, *gearnet, "--out", tmp_path / "none"),
    ):
        said = command(*arguments, code=2, before="import sys; sys.modules['torchdrug'] = None")
        assert "GearNet structure encoder needs torchdrug; got torchdrug is not installed" in " ".join(
            said.split()
        )


def command(*arguments: object, code: int = 0, before: str = "") -> str:
    """What ``protclip`` says in a process of its own."""
    call = f"{before}\nimport sys\nsys.argv[0] = 'protclip'\nfrom protclip.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", call, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_without_torchdrug(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdrug", None)
    protein = Protein.from_ca("a", "GAV", 3.8 * np.eye(3))
    for call in (
        lambda: to_torchdrug(protein),
        lambda: StructureModality.from_options({"encoder": "gearnet"}),
    ):
        with pytest.raises(MissingTorchdrugError, match=r"not installed.*pip install --no-deps"):
            call()


@needs_torchdrug
def test_a_package_that_it_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    before = set(sys.modules)
    with pytest.raises(MissingTorchdrugError, match="torchdrug is installed, but not lmdb"):
        to_torchdrug(Protein.from_ca("a", "GAV", 3.8 * np.eye(3)))
    left = {name.split(".")[0] for name in set(sys.modules) - before}
    assert not left & {"torchdrug", "torch_scatter", "torch_cluster"}
