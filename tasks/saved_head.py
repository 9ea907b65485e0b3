"""The folder of a trained head: network, classes, calibration, and the model that it comes from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protclip.errors import WeightsError
from protclip.files import read_toml
from protclip.model.folder import damaged_config, read_config, read_weights, whole_folder, write_folder
from protclip.tasks.network import TaskNetwork

FILES = ("model.safetensors", "config.toml")


def save_head(
    folder: Path, network: TaskNetwork, *, head: Mapping[str, Any], facts: Mapping[str, Any], card: str
) -> None:
    """Write ``config.toml``, ``model.safetensors`` (towers included) and ``README.md``, whole or not at all.

    Parameters
    ----------
    folder : Path
    network : TaskNetwork
    head : mapping
        Task, classes, calibration.
    facts : mapping
        How it was trained, and from which parent.
    card : str
        Markdown.
    """
    config = {"head": dict(head), "network": network.config(), "training": dict(facts)}
    write_folder(folder, network, config, card=card)


def find_head(path: Path) -> Path:
    """The head folder at ``path``: itself, or the ``head`` sub-folder of a run.

    Raises
    ------
    WeightsError
        If there is none; says what there is instead.
    """
    for folder in (path, path / "head"):
        if all((folder / name).is_file() for name in FILES) and "head" in read_toml(folder / "config.toml"):
            return folder
    for folder in (path, path / "model"):
        if all((folder / name).is_file() for name in FILES):
            raise WeightsError(
                "this is an aligned model, not a head for a task",
                where=str(path),
                hint=f"Train a head on it with `protclip finetune TASK --model {path}`",
            )
    if any(path.glob("**/state.pt")) if path.is_dir() else False:
        raise WeightsError(
            "the run is not finished, so it has no head yet",
            where=str(path),
            hint=f"Finish it with `protclip finetune TASK --out {path} --resume`",
        )
    raise WeightsError(
        "no head here",
        where=str(path),
        got="no such folder" if not path.exists() else f"no {FILES[0]} with {FILES[1]}",
        expected="a head folder or a run folder that `protclip finetune` wrote",
    )


def read_head(path: Path) -> tuple[TaskNetwork, dict[str, Any]]:
    """Read a head folder.

    Returns
    -------
    TaskNetwork, dict
        In evaluation mode; the whole ``config.toml``.

    Raises
    ------
    WeightsError
        If the folder is no head, is of a newer format, or is damaged.
    """
    folder = find_head(path)
    config = read_config(folder, "head", expected="the head that `protclip finetune` wrote")
    with damaged_config(folder):
        network = TaskNetwork.from_config(config["network"])
        if network.classes != len(config["head"]["classes"]):
            raise ValueError("classes do not fit the network")
    read_weights(folder, network)
    return network.eval(), config


def copy_head(source: Path, target: Path) -> None:
    """Copy a head folder; the copy appears whole or not at all, and replaces an older one."""
    with whole_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
