"""Command-line options made from the fields of configuration dataclasses."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from protclip.config.schema import PANELS, Options, type_hints
from protclip.config.sources import SourceOptions
from protclip.config.spelling import FlatOption, entries, flag, flat_options
from protclip.files import toml_value

Command = Callable[..., None]


def with_options(
    config: type[Options],
    *,
    only: Callable[[FlatOption], bool] = lambda option: True,
    advanced: bool = False,
    defaults: bool = True,
) -> Callable[[Command], Any]:
    """Decorator: give a command the options of ``config`` in place of its ``**chosen``.

    The command gets those that the user named, by field name. Fields are made by
    :func:`protclip.config.schema.option`; those without a help are not options of the command line.

    Parameters
    ----------
    config : type
        Class of configurations.
    only : callable
        Which of its options.
    advanced : bool
        Whether ``--help-all`` alone shows them.
    defaults : bool
        Whether their defaults are those of the command; else it has others, of which its help tells.
    """
    known = flat_options(config)
    found = {n: o for n, o in known.items() if o.field.metadata.get("help") and only(o)}
    # What holds for every source comes first.
    found = dict(sorted(found.items(), key=lambda pair: issubclass(pair[1].owner, SourceOptions)))
    made = {
        name: _parameter(option, flag(name, known), advanced or option.field.metadata["advanced"], defaults)
        for name, option in found.items()
    }

    def decorate(command: Command) -> Command:
        own = [
            p
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]

        def run(**values: Any) -> None:
            given = {name: values[name] for name in found if values.get(name) not in (None, [])}
            chosen = {
                name: entries(value, flag(name, known)) if isinstance(value, list) else value
                for name, value in given.items()
            }
            command(**{p.name: values[p.name] for p in own}, **chosen)

        order = sorted((*made.values(), *own), key=_place_in_help)
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*order, *_help_all(order))]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate


def _parameter(option: FlatOption, flag: str, hidden: bool, defaults: bool) -> inspect.Parameter:
    field = option.field
    help, default = field.metadata["help"], field.default
    kind = _plain_type(type_hints(option.owner)[field.name])
    if kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
        default = "yes" if default else "no"
    if defaults and isinstance(default, (str, int, float)) and default != "":
        help += f" [default: {default}]"
    many, mixed = kind is list, kind is Any
    panel = field.metadata["panel"] or None
    info = typer.Option(
        [] if many else None,
        flag,
        help=f"{help}.",
        rich_help_panel=panel,
        hidden=hidden,
        parser=toml_value if mixed else None,
        metavar="<int or word>" if mixed else "NAME=VALUE" if many else None,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=info,
        annotation=list[str] if many else kind,
    )


def _plain_type(hint: Any) -> Any:
    """What the command line parses; the configuration checks the rest."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [a for a in typing.get_args(hint) if a is not type(None)]
        return _plain_type(kinds[0]) if len(kinds) == 1 else Any
    if origin is typing.Literal:
        return str
    return list if origin is not None and issubclass(origin, Mapping) else hint


def _place_in_help(parameter: inspect.Parameter) -> tuple[int, bool]:
    """Arguments, what is particular to the command, then panel by panel, the advanced options last."""
    info = parameter.default
    if isinstance(info, typer.models.ArgumentInfo):
        return -2, False
    panel = info.rich_help_panel
    return PANELS.index(panel) if panel in PANELS else -1, info.hidden


def _help_all(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """The option that shows the others; none where nothing is hidden."""
    hidden = sum(p.default.hidden for p in parameters)
    if not hidden:
        return []
    info = typer.Option(
        False, "--help-all", is_eager=True, callback=_show_all, help=f"Show {hidden} more options and exit."
    )
    return [inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=info, annotation=bool)]


def _show_all(context: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    for parameter in context.command.params:
        if isinstance(parameter, typer.core.TyperOption):
            parameter.hidden = False
    typer.echo(context.get_help())
    raise typer.Exit
