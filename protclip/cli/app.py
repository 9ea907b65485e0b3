"""The ``protclip`` command: verbs, and how errors end."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from contextlib import suppress
from typing import NoReturn

import typer

import protclip
from protclip.cli import (
    align_vectors,
    data,
    embed,
    evaluate,
    experiment,
    finetune,
    info,
    merge,
    predict,
    pretrain,
    refit,
)
from protclip.errors import ConfigError, DataError, ProtclipError

app = typer.Typer(
    name="protclip",
    help=(protclip.__doc__ or "").partition("\n")[0].removeprefix("protclip: ").capitalize(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("pretrain")(pretrain.pretrain)
app.command("align", hidden=True)(pretrain.pretrain)  # by its former name
app.command("finetune")(finetune.finetune)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("merge")(merge.merge)
app.command("evaluate")(evaluate.evaluate)
app.command("refit")(refit.refit)
app.command("align-vectors")(align_vectors.align_vectors)
app.command("experiment")(experiment.experiment)
app.command("info")(info.info)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"protclip {protclip.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def run() -> None:
    """Run the command; bad input ends with one sentence on stderr and exit code 2, an interrupt with 130."""
    # A warning is a sentence for the user, who has no use for the line of code behind it.
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    _open_streams()
    try:
        _check_folder()
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where what it raises can be told
    except ProtclipError as error:
        _end(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output went away (``| head``); leave quietly.
        _end("", 1)
    except OSError as error:
        # Files are written with an error of their own; what is left is mostly standard output.
        _end(f"error: {_system_error(error)}", ProtclipError.exit_code)


def _open_streams() -> None:
    """Put the null device where a standard stream was closed, lest a file that is opened takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _check_folder() -> None:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise ConfigError(
            "the current folder is not there any more",
            got=error.strerror,
            hint="Go to another folder with cd",
        ) from None


def _system_error(error: OSError) -> ProtclipError:
    return DataError(
        "cannot be read or written",
        where=str(error.filename) if error.filename is not None else "standard output",
        got=error.strerror or str(error),
        hint="Make room on the disk" if error.errno == errno.ENOSPC else None,
    )


def _end(text: str, status: int) -> NoReturn:
    """End with one line on stderr, whatever has become of the standard streams."""
    if text:
        with suppress(OSError, ValueError):
            typer.echo(text, err=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            # What could not be written would be tried again, and reported, when Python ends.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)
