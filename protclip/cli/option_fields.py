"""Command-line options made from the fields of configuration dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import typer

from protclip.errors import ConfigError


def with_options(*configs: type[Any], evaluation: bool = False) -> Callable[[Callable[..., None]], Any]:
    """Decorator: give a command the option fields of ``configs`` in place of its ``**chosen``.

    The command gets those that the user named, by field name. Fields are made by
    :func:`protclip.config.schema.option`; others are not options.

    Parameters
    ----------
    *configs : dataclass types
        Fields that several of them share are listed once.
    evaluation : bool
        Only the fields that evaluation takes.
    """
    found: dict[str, inspect.Parameter] = {}
    mixed: set[str] = set()
    for config in configs:
        hints = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            shown = "help" in field.metadata and (field.metadata["evaluation"] or not evaluation)
            if shown and field.name not in found:
                found[field.name] = _parameter(field, hints[field.name])
                mixed |= {field.name} if _is_mixed(hints[field.name]) else set()

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        names = {p.name for p in own}

        def run(**values: Any) -> None:
            command(
                **{name: value for name, value in values.items() if name in names},
                **{
                    name: entries(value, found[name].default.param_decls[0])
                    if isinstance(value, list)
                    else _number_or_word(value)
                    if name in mixed
                    else value
                    for name, value in values.items()
                    if name in found and value is not None and value != []
                },
            )

        arguments = [p for p in own if isinstance(p.default, typer.models.ArgumentInfo)]
        options = [p for p in own if p not in arguments]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*arguments, *found.values(), *options)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate


def flags(names: Collection[str]) -> str:
    """Options of the command line by the names of their fields, for a sentence.

    >>> flags({"num_nodes", "device"})
    '--device, --num-nodes'
    """
    return ", ".join("--" + name.replace("_", "-") for name in sorted(names))


def _parameter(field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    metadata = field.metadata
    flag = metadata["flag"] or "--" + field.name.replace("_", "-")
    help = metadata["help"]
    kind = _plain_type(hint)
    default = field.default
    if kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
        default = "yes" if default else "no"
    if default not in (None, "", dataclasses.MISSING):
        help += f" [default: {default}]"
    many = kind is list
    info = typer.Option([] if many else None, flag, help=f"{help}.", rich_help_panel=metadata["panel"])
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=info,
        annotation=list[str] if many else kind,
    )


def _plain_type(hint: Any) -> Any:
    """What the command line parses; the configuration checks the rest."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return str
    if _is_mixed(hint):
        return str
    if origin in (typing.Union, types.UnionType):
        return _plain_type(next(a for a in typing.get_args(hint) if a is not type(None)))
    if origin is not None and issubclass(origin, Mapping):
        return list
    return hint


def _is_mixed(hint: Any) -> bool:
    """Whether a number and a word both are values, as with ``--batch-size 64`` and ``auto``."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return False
    return len([a for a in typing.get_args(hint) if a is not type(None)]) > 1


def _number_or_word(text: str) -> Any:
    from protclip.files import toml_value

    return toml_value(text)


def entries(texts: Sequence[str], flag: str) -> dict[str, Any]:
    """Values of a repeated NAME=VALUE option, each as TOML writes it.

    Raises
    ------
    ConfigError
        If there is no equals sign.

    Examples
    --------
    >>> entries(["size=64", "encoder=small"], "--left-option")
    {'size': 64, 'encoder': 'small'}
    """
    from protclip.files import toml_value

    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("not NAME=VALUE", where=f"{flag} {text}")
        values[name.strip()] = toml_value(value.strip())
    return values
