"""Find the pretrained model that a downstream run starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protclip.data.files.vector_file import VectorFile
from protclip.files import read_toml
from protclip.model.folder import find_model, newest_run
from protclip.tasks.config import AUTO, FinetuneConfig
from protclip.typing import Say

SCRATCH = (
    "structure_encoder",
    "structure_size",
    "structure_input",
    "sequence_encoder",
    "esm_weights",
    "esm_init",
)
"""Options of towers from scratch: who gives one wants no pretrained model."""


def choose_model(config: FinetuneConfig, *, say: Say = lambda text: None, root: Path = Path("runs")) -> str:
    """The model that a run starts from: for ``auto`` the newest finished run in ``root``, if its towers fit.

    Parameters
    ----------
    config : FinetuneConfig
        Any other ``model`` than ``auto`` comes back as it is.
    say : callable
        Told what was chosen, and why a run is not used.
    root : Path

    Returns
    -------
    str
        Absolute path of the run; empty for towers from scratch.
    """
    if config.model != AUTO:
        return config.model
    newest = newest_run(root)
    if newest.folder is None:
        say(f"{newest.sentence()}: towers start from scratch")
        return ""
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    given = [name for name in SCRATCH if getattr(config, name) != defaults[name]]
    flags = ", ".join("--" + name.replace("_", "-") for name in given)
    why = f"{flags} asks for towers from scratch" if given else _unfit(newest.folder, config)
    if why:
        say(f"{newest.sentence()}. It is not used: {why}. Towers start from scratch; --model names another")
        return ""
    say(f"{newest.sentence()}. Towers start from it; --model none starts from scratch")
    return str(newest.folder.resolve())


def _unfit(run: Path, config: FinetuneConfig) -> str:
    """Why the towers of a run cannot serve this configuration; empty if they can."""
    sides = {_name(side): side for side in read_toml(find_model(run) / "config.toml")["model"]["sides"]}
    for name in config.uses:
        if name not in sides:
            return f"it has no {name} tower, only {' and '.join(sides)}"
        side = sides[name]
        if side["modality"] != "vectors":
            continue
        if not config.vectors:
            return f"its {name} side takes precomputed vectors, and no --vectors are given"
        with VectorFile.open(config.vectors) as vectors:
            if vectors.dim != side["dim"]:
                return f"its {name} side takes vectors of {side['dim']} numbers, --vectors has {vectors.dim}"
    return ""


def _name(side: Mapping[str, Any]) -> str:
    return str(side.get("stands_for") or side["modality"])
