"""The one way from flat options to a checked configuration."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from protclip.config.checks import near
from protclip.config.loss import LossConfig
from protclip.config.presets import loss_preset
from protclip.config.schema import Options, checked_value
from protclip.config.sources import SourceOptions, source_for
from protclip.config.spelling import flag, flags, flat_options
from protclip.errors import ConfigError

Config = TypeVar("Config", bound=Options)


def resolve(
    cls: type[Config],
    options: Mapping[str, Any],
    *,
    base: Config | None = None,
    resume: Path | None = None,
    place: Callable[[str], str] | None = None,
) -> Config:
    """The configuration that flat options make, each of them checked.

    Paths stay as they were given, so that ``config.toml`` says what the user typed: relative ones, also
    those of a TOML file, are of the folder in which the command runs.

    Parameters
    ----------
    cls : type
        Such as :class:`protclip.config.pretraining.PretrainConfig`.
    options : mapping
        Options of any section by name. ``config``, a TOML file or the name of a published setting, is what
        the others change. ``preset`` names an objective; with any but ``default`` the heads stay as they were
        trained, unless ``refit`` is given too. An option of another source than that of ``base`` changes
        the source, unless ``base`` has options of its own.
    base : Config, optional
        What the options change, in place of the defaults.
    resume : Path, optional
        Run folder to go on with. Its own options hold, those given again must not contradict them, and what
        says where a run computes may change. A folder without options is that of a new run.
    place : callable, optional
        How an option is named in messages, from its name [default: as on the command line].

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        Unknown options, values of the wrong type, out of range or outside a closed set, options of two
        sources at once, options that contradict each other or the run that is resumed.

    Examples
    --------
    >>> from protclip.config.pretraining import PretrainConfig
    >>> resolve(PretrainConfig, {"paired": 0.1, "ssl_weight": 0.2}).data.paired
    0.1
    >>> resolve(PretrainConfig, {"precision": "fp23"})
    Traceback (most recent call last):
    protclip.errors.ConfigError: --precision: unknown choice; got 'fp23', expected auto, fp32 or bf16. \
Did you mean fp32?
    """
    if place is None:
        place = functools.partial(flag, known=flat_options(cls))
    if resume is not None and (resume / "config.toml").exists():
        return _resumed(cls, resume, options, place)
    given = {k: v for k, v in options.items() if v is not None or k not in ("config", "preset")}
    made: Any = base if base is not None else cls()
    if (config := given.pop("config", None)) is not None:
        made = cls.load(published_or_file(Path(config), place("config")))
    if "preset" in given and isinstance(getattr(made, "loss", None), LossConfig):
        preset = given.pop("preset")
        made = dataclasses.replace(made, loss=loss_preset(preset, where=place("preset")))
        if preset != "default":  # as published: heads as they were trained
            given = {"refit": "none", **given}
    if isinstance(getattr(made, "source", None), SourceOptions):
        made = dataclasses.replace(made, source=source_for(made.source, given))
    return cast("Config", _changed(made, given, place))


def _changed(config: Config, given: Mapping[str, Any], place: Callable[[str], str]) -> Config:
    """``config`` with the ``given`` options in the sections that they belong to."""
    sections = _sections(config)
    owners = {f.name: name for name, part in sections.items() for f in _fields(part)}
    if unknown := sorted(name for name in given if name not in owners):
        raise ConfigError(
            "unknown option",
            where=", ".join(map(place, unknown)),
            hint=near(unknown[0], (*owners, "config", *["preset"] * ("loss" in sections))),
        )
    changes: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for section, part in sections.items():
        for field in _fields(part):
            if field.name in given:
                value = checked_value(type(part), field, given[field.name], place(field.name))
                if isinstance(value, Mapping):  # entries of their own: those that are not named stay
                    value = {**getattr(part, field.name), **value}
                changes[section][field.name] = value
    own = changes.pop("", {})
    parts = {name: dataclasses.replace(sections[name], **values) for name, values in changes.items()}
    return dataclasses.replace(config, **own, **parts)  # type: ignore[type-var]


def _sections(config: Options) -> dict[str, Any]:
    """Parts that hold options, by name; the configuration itself is the part without a name."""
    parts = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    return {"": config, **{name: part for name, part in parts.items() if isinstance(part, Options)}}


def _fields(part: Options) -> list[dataclasses.Field[Any]]:
    fields = dataclasses.fields(part)  # type: ignore[arg-type]
    return [field for field in fields if not isinstance(getattr(part, field.name), Options)]


def _resumed(
    cls: type[Config], folder: Path, options: Mapping[str, Any], place: Callable[[str], str]
) -> Config:
    saved = cls.load(folder / "config.toml")
    machine = machine_options(cls)
    kept = resolve(cls, {k: v for k, v in options.items() if k in machine}, base=saved, place=place)
    wished = resolve(cls, options, base=saved, place=place)
    before, after = _values(kept), _values(wished)
    settled = {name for name, found in flat_options(cls).items() if found.field.metadata.get("settled")}
    changed = [
        name
        for name, value in after.items()
        if value != before.get(name) and name not in machine and not (name in settled and value == "auto")
    ]
    if changed:
        raise ConfigError(
            "a resumed run keeps the options that it was started with",
            where=f"--resume of {folder}",
            got=", ".join(f"{place(name)} {after[name]}" for name in changed),
            expected=", ".join(f"{place(name)} {before.get(name, 'without')}" for name in changed),
            hint=f"Give only {flags(machine)} again, or start a new run",
        )
    return kept


def _values(config: Options) -> dict[str, Any]:
    return {f.name: getattr(part, f.name) for part in _sections(config).values() for f in _fields(part)}


def machine_options(cls: type[Options]) -> frozenset[str]:
    """Options that say where a run computes and what it draws; they may change when it is resumed.

    Examples
    --------
    >>> from protclip.config.pretraining import PretrainConfig
    >>> sorted(machine_options(PretrainConfig))
    ['checkpoint_seconds', 'device', 'devices', 'num_nodes', 'plots', 'workers']
    """
    found = flat_options(cls).items()
    return frozenset(name for name, option in found if option.field.metadata.get("machine"))


def published_or_file(path: Path, where: str = "--config") -> Path:
    """The file, or that of the published setting of this name which comes with protclip.

    Raises
    ------
    ConfigError
        There is neither.
    """
    if path.exists():
        return path
    shipped = {file.stem: file for file in (Path(__file__).parent / "published").glob("*.toml")}
    if path.name == str(path) and path.name in shipped:
        return shipped[path.name]
    raise ConfigError(
        "no such file or published setting",
        where=where,
        got=str(path),
        expected=f"a TOML file, {', '.join(sorted(shipped)[:-1])} or {max(shipped)}",
        hint=near(path.name, shipped),
    )
