"""``--help`` shows what most users decide, ``--help-all`` everything."""

from __future__ import annotations

import re
import typing
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from protclip.cli.app import app
from protclip.config.pretraining import PretrainConfig
from protclip.config.schema import PANELS, Options, type_hints
from protclip.config.spelling import flag, flat_options
from protclip.tasks.config import FinetuneConfig

VERBS = ("pretrain", "align", "finetune", "refit", "evaluate", "experiment", "embed", "predict")


def shown(*arguments: str, width: int = 120) -> list[str]:
    """Options that a help lists."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(width)}, catch_exceptions=False)
    assert result.exit_code == 0
    return re.findall(r"^│ (?:[* ]  )?(--[a-z-]+)", result.output, re.M)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verb", VERBS)
def test_help_can_be_read_at_once(verb: str, width: int) -> None:
    options = [option for option in shown(verb, "--help", width=width) if not option.startswith("--help")]
    assert 5 <= len(options) <= 25
    assert len(set(options)) == len(options)


@pytest.mark.parametrize(
    ("verb", "cls"),
    [("pretrain", PretrainConfig), ("experiment", PretrainConfig), ("finetune", FinetuneConfig)],
)
def test_help_all_lists_every_option(verb: str, cls: type[Options]) -> None:
    known = flat_options(cls)
    expected = {flag(name, known) for name, option in known.items() if option.field.metadata.get("help")}
    every, short = shown(verb, "--help-all"), shown(verb, "--help")
    assert expected <= set(every)
    assert len(set(every)) == len(every)
    (line,) = re.findall(r"Show (\d+) more", CliRunner().invoke(app, [verb, "--help"]).output)
    assert len(every) == len(short) + int(line)
    assert shown(verb, "--help") == short  # the long help leaves nothing behind


@pytest.mark.parametrize("cls", [PretrainConfig, FinetuneConfig])
def test_every_option_has_a_panel_and_names_its_choices(cls: type[Options]) -> None:
    for name, option in flat_options(cls).items():
        metadata = option.field.metadata
        if not metadata.get("help"):
            continue
        assert metadata["panel"] in PANELS, name
        hint: Any = type_hints(option.owner)[name]
        if typing.get_origin(hint) is Literal:
            assert all(word in metadata["help"] for word in typing.get_args(hint)), name


def test_panels_come_in_the_order_in_which_one_decides() -> None:
    output = CliRunner().invoke(app, ["pretrain", "--help"], env={"COLUMNS": "100"}).output
    titles = re.findall(r"^╭─ (.*?) ─+╮", output, re.M)
    assert titles == ["Options", *PANELS]
