"""A model folder on disk: weights, configuration and card, whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import protclip
from protclip.errors import ConfigError, DataError, ProtclipError, WeightsError
from protclip.files import atomic_path, atomic_write, read_toml, sync, temporary_name, write_toml
from protclip.model.bounds import SPARE_NUMBERS, BoundedTensors
from protclip.work.locks import claim

MODEL_FORMAT = 1


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``folder`` when all is written.

    What killed writers left is removed.

    Raises
    ------
    DataError
        If another process is writing the folder, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> model = Path(tempfile.mkdtemp()) / "model"
    >>> for text in ("old", "new"):
    ...     with whole_folder(model) as partial:
    ...         _ = (partial / "README.md").write_text(text)
    >>> (model / "README.md").read_text(), [path.name for path in model.parent.iterdir()]
    ('new', ['model'])
    """
    if folder.exists() and not folder.is_dir():
        raise DataError("a file stands in the place of the folder to write", where=str(folder))
    with claim(folder):
        partial, old = temporary_name(folder), temporary_name(folder)
        try:
            partial.mkdir()
            yield partial
            sync(partial)
            if folder.is_symlink():  # to the folder of the user's own, which stays as it is
                folder.unlink()
            elif folder.exists():
                folder.rename(old)
            partial.rename(folder)
            sync(folder.parent)
        except OSError as error:
            raise DataError(
                "cannot be written", where=str(folder), got=error.strerror or str(error)
            ) from error
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for left in (partial, old):
                shutil.rmtree(left, ignore_errors=True)


def write_folder(folder: Path, module: nn.Module, config: Mapping[str, Any], *, card: str) -> None:
    """Write weights, ``config.toml`` and ``README.md``; the folder appears whole or not at all.

    Parameters
    ----------
    folder : Path
        Replaced if it exists.
    module : Module
        All of its parameters and buffers are saved.
    config : mapping
        TOML values; format and program version are added.
    card : str
        Markdown.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    versions = {"format_version": MODEL_FORMAT, "protclip_version": protclip.__version__}
    with whole_folder(folder) as partial:
        with atomic_path(partial / "model.safetensors") as weights_path:  # whose writer makes private files
            save_file(weights, weights_path)
        write_toml(partial / "config.toml", {**versions, **config})
        atomic_write(partial / "README.md", card)


def read_config(folder: Path, table: str, *, expected: str) -> dict[str, Any]:
    """``config.toml`` of a folder that :func:`write_folder` wrote.

    Raises
    ------
    WeightsError
        If it has no ``table`` or is of a newer format.
    """
    config = read_toml(folder / "config.toml")
    version = config.get("format_version")
    if not isinstance(version, int) or version > MODEL_FORMAT or table not in config:
        raise WeightsError(
            "not a model folder of this protclip",
            where=str(folder / "config.toml"),
            got=f"format_version {version!r}",
            expected=f"{MODEL_FORMAT} or older and a [{table}] table",
            hint=f"Update protclip, or give {expected}",
        )
    return config


@contextlib.contextmanager
def damaged_config(folder: Path) -> Iterator[None]:
    """Turn the errors of building a module from a wrong ``config.toml`` into :class:`WeightsError`.

    A module that would hold more numbers than its weights file has bytes, and :data:`SPARE_NUMBERS`, is
    refused before memory is asked for.
    """
    weights = folder / "model.safetensors"
    size = weights.stat().st_size if weights.is_file() else 0
    try:
        with BoundedTensors(size + SPARE_NUMBERS):
            yield
    except ProtclipError:
        raise
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"damaged model config ({error!r})", where=str(folder / "config.toml")) from error


def read_weights(folder: Path, module: nn.Module) -> None:
    """Load the weights of a folder into ``module``.

    Raises
    ------
    WeightsError
        If the file cannot be read, does not fit, or holds numbers that are not finite.
    """
    try:
        weights = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"cannot read the weights ({error})", where=str(folder / "model.safetensors")
        ) from error
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WeightsError(
                "the weights are not finite numbers",
                where=str(folder / "model.safetensors"),
                got=f"NaN or infinity in {name}",
                hint="The training went wrong or the file is damaged; train again or copy it again",
            )
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(
            "the weights do not fit the config",
            where=str(folder),
            got=str(error).split("\n")[-1].strip(),
            hint="The folder is mixed from two models or damaged; copy it again",
        ) from error


def find_model(path: Path) -> Path:
    """The model folder at ``path``: itself, or its ``model`` sub-folder when a run is given.

    Raises
    ------
    WeightsError
        If there is none; says what is there instead.
    """
    if (found := _model_in(path)) is not None:
        return found
    if (path / "head" / "model.safetensors").is_file():
        raise WeightsError(
            "this is the run of a downstream task, and its head is no model of two towers",
            where=str(path),
            expected="a model folder or a run folder that `protclip pretrain` wrote",
            hint=f"`protclip predict {path}` uses the head",
        )
    if (path / "state.pt").is_file():
        raise WeightsError(
            "the run is not finished, so it has no model yet",
            where=str(path),
            hint=f"Finish it with `protclip pretrain --out {path} --resume`",
        )
    raise WeightsError(
        "no model here",
        where=str(path),
        got="no such folder" if not path.exists() else "no model.safetensors with config.toml",
        expected="a model folder or a run folder that `protclip pretrain` wrote",
    )


def _model_in(path: Path) -> Path | None:
    for folder in (path, path / "model"):
        if (folder / "model.safetensors").is_file() and (folder / "config.toml").is_file():
            return folder
    return None


class NewestRun(NamedTuple):
    """What :func:`newest_run` found.

    Attributes
    ----------
    folder : Path or None
        The finished run whose model is the newest.
    unfinished : tuple of Path
        Runs begun after its model was written (or all, where none is finished) that have no model yet.
    root : Path
        Where was looked.
    """

    folder: Path | None
    unfinished: tuple[Path, ...]
    root: Path

    def sentence(self) -> str:
        """What was found, for the user."""
        found = (
            f"the newest finished run is {self.folder}" if self.folder else f"no finished run in {self.root}/"
        )
        if not self.unfinished:
            return found
        names = ", ".join(path.name for path in self.unfinished)
        return f"{found}; passed over as not finished: {names}"

    def required(self) -> Path:
        """The finished run.

        Raises
        ------
        ConfigError
            If there is none; names the two ways to get one.
        """
        if self.folder is not None:
            return self.folder
        got = (
            f"nothing finished in {self.root.absolute()}"
            if self.root.is_dir()
            else f"no folder {self.root.absolute()}"
        )
        if self.unfinished:
            got += f" ({', '.join(path.name for path in self.unfinished)} not finished)"
        raise ConfigError(
            "no finished run to load a model from",
            where="load()",
            got=got,
            expected="a run that `protclip pretrain` has finished",
            hint="Train one here with `protclip pretrain --cath FOLDER`, or name one: "
            'protclip.load("path/to/model")',
        )


def newest_run(root: Path = Path("runs")) -> NewestRun:
    """The finished run in ``root`` whose model was written last, and the unfinished runs passed over for it.

    A run is a folder in ``root`` that holds a model, or is one itself; runs of downstream tasks do not count.

    Examples
    --------
    >>> newest_run(Path("no-such-folder")).sentence()
    'no finished run in no-such-folder/'
    """
    finished: list[tuple[float, str, Path]] = []
    begun: list[tuple[float, str, Path]] = []
    for run in root.iterdir() if root.is_dir() else ():
        try:
            if run.name.startswith("."):
                continue
            if (model := _model_in(run)) is not None:
                if "model" in read_toml(model / "config.toml"):
                    finished.append(((model / "model.safetensors").stat().st_mtime, run.name, run))
            elif (run / "config.toml").is_file() and "train" in read_toml(run / "config.toml"):
                begun.append(((run / "config.toml").stat().st_mtime, run.name, run))
        except (OSError, ConfigError):  # being moved, or damaged: nothing to load
            begun.append((0.0, run.name, run))
    newest = max(finished, default=None)
    passed = [entry for entry in sorted(begun, reverse=True) if newest is None or entry[0] > newest[0]]
    return NewestRun(newest[2] if newest else None, tuple(run for _, _, run in passed), root)
