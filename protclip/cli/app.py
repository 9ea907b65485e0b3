"""The ``protclip`` command: verbs, and how errors end."""

from __future__ import annotations

import os
import sys
import warnings

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
from protclip.errors import ProtclipError

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
    try:
        app()
    except ProtclipError as error:
        sys.stdout.flush()
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (``| head``); leave quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
