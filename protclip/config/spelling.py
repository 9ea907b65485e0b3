"""How options are spelled on the command line: their flags, values, and a set of them as arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from protclip.config.checks import near
from protclip.config.loss import LossConfig
from protclip.config.schema import Options, type_hints
from protclip.config.sources import SourceOptions, source_kinds
from protclip.errors import ConfigError
from protclip.files import toml_value

LOSS_ENTRIES = tuple(field.name for field in dataclasses.fields(LossConfig))
"""What ``--loss NAME=VALUE`` takes."""


class FlatOption(NamedTuple):
    """An option of a configuration that may have sections.

    Attributes
    ----------
    section : str
        Field of the configuration that holds it; empty where the configuration holds it itself.
    owner : type
        Class of options that it is a field of.
    field : dataclasses.Field
    """

    section: str
    owner: type[Options]
    field: dataclasses.Field[Any]


def flat_options(cls: type[Options]) -> dict[str, FlatOption]:
    """Every option of a class of configurations by name, whatever section it stands in.

    Those of all registered sources are among them; a name that several sources share is listed once.

    Examples
    --------
    >>> from protclip.config.pretraining import PretrainConfig
    >>> found = flat_options(PretrainConfig)
    >>> found["paired"].section, found["sdd_weight"].section, found["cath"].section
    ('data', 'loss', 'source')
    """
    found: dict[str, FlatOption] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        hint = type_hints(cls)[field.name]
        if not (isinstance(hint, type) and issubclass(hint, Options)):
            found[field.name] = FlatOption("", cls, field)
            continue
        for owner in source_kinds().values() if hint is SourceOptions else (hint,):
            for inner in dataclasses.fields(owner):  # type: ignore[arg-type]
                found.setdefault(inner.name, FlatOption(field.name, owner, inner))
    return found


def flag(name: str, known: Mapping[str, FlatOption]) -> str:
    """An option as the command line writes it; entries of the objective with their ``--loss`` in front.

    Examples
    --------
    >>> from protclip.config.pretraining import PretrainConfig
    >>> known = flat_options(PretrainConfig)
    >>> flag("batch_size", known), flag("sdd_weight", known)
    ('--batch-size', '--loss sdd_weight')
    """
    option = known.get(name)
    if option is not None and option.owner is LossConfig:
        return f"--loss {name}"
    own = option.field.metadata.get("flag") if option is not None else ""
    return own or "--" + name.replace("_", "-")


def flags(names: Collection[str]) -> str:
    """Options by the names of their fields, for a sentence.

    >>> flags({"num_nodes", "device"})
    '--device, --num-nodes'
    """
    return ", ".join("--" + name.replace("_", "-") for name in sorted(names))


def as_arguments(options: Mapping[str, Any], cls: type[Options]) -> list[str]:
    """Flat options of ``cls`` as arguments of its command; those that are None are left out.

    Examples
    --------
    >>> from protclip.config.pretraining import PretrainConfig
    >>> options = {"objective": "setclip", "paired": 0.1, "ssl_weight": 0.0, "preset": "paper"}
    >>> as_arguments(options, PretrainConfig)
    ['--preset', 'paper', '--loss', 'ssl_weight=0.0', '--objective', 'setclip', '--paired', '0.1']
    """
    known = flat_options(cls)
    first = [name for name in ("config", "preset") if name in options]
    loss = sorted(name for name in options if name in known and known[name].owner is LossConfig)
    rest = [name for name in options if name not in (*first, *loss)]
    made: list[str] = []
    for name in (*first, *loss, *rest):
        value = options[name]
        spelled, _, entry = flag(name, known).partition(" ")
        if value is None:
            continue
        if entry:
            made += [spelled, f"{entry}={toml_text(value)}"]
        elif isinstance(value, bool):
            made.append(spelled if value else "--no-" + spelled.removeprefix("--"))
        elif isinstance(value, Mapping):
            made += [part for key, item in value.items() for part in (spelled, f"{key}={toml_text(item)}")]
        else:
            made += [spelled, str(value)]
    return made


def toml_text(value: Any) -> str:
    """A value of a NAME=VALUE option.

    >>> toml_text([1, 2]), toml_text(True), toml_text("kl")
    ('[1, 2]', 'true', 'kl')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    return str(value)


def entries(texts: Sequence[str], flag: str, known: Collection[str] | None = None) -> dict[str, Any]:
    """Values of a repeated NAME=VALUE option, each as TOML writes it.

    Parameters
    ----------
    texts : sequence of str
    flag : str
        The option, for messages.
    known : collection of str, optional
        Names that it takes; all without it.

    Raises
    ------
    ConfigError
        If there is no equals sign, or the name is unknown.

    Examples
    --------
    >>> entries(["size=64", "encoder=small"], "--left-option")
    {'size': 64, 'encoder': 'small'}
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError("not NAME=VALUE", where=f"{flag} {text}")
        if known is not None and name not in known:
            raise ConfigError(
                "unknown entry", where=f"{flag} {name}", expected=", ".join(known), hint=near(name, known)
            )
        values[name] = toml_value(value)
    return values
