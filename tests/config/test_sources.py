"""Sources of items: options that belong to them, found by entry point, on the command line and in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from protclip.cli.option_fields import with_options
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.config.schema import DATA, option
from protclip.config.sources import SourceOptions, source_kinds, source_options
from protclip.errors import ConfigError


@dataclass(frozen=True)
class StarOptions(SourceOptions):
    """A source of another package."""

    kind: ClassVar[str] = "stars"
    implementation: ClassVar[str] = "builtins:repr"

    catalogue: str = option("", "File of stars", panel=DATA)
    filters: Mapping[str, Any] = option({}, "Filters", panel=DATA, flag="--filter")
    deep: bool = option(True, "Look long", panel=DATA, evaluation=True)
    vectors: str = option("", "Shares its name with an option of the proteins", panel=DATA)


@pytest.fixture
def stars(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {**source_kinds(), "stars": StarOptions}
    monkeypatch.setattr("protclip.config.sources.source_kinds", lambda: kinds)


def test_proteins_are_the_default_source() -> None:
    assert PretrainConfig().source == source_options("proteins")()


@pytest.mark.usefixtures("stars")
def test_a_source_is_chosen_by_its_options_and_round_trips(tmp_path: Path) -> None:
    config = resolve(
        PretrainConfig, {"catalogue": "gaia", "filters": {"band": "r", "depth": 3}, "paired": 0.2}
    )
    assert config.source == StarOptions(catalogue="gaia", filters={"band": "r", "depth": 3})
    assert config.data.paired == 0.2
    config.save(tmp_path / "config.toml")
    assert PretrainConfig.load(tmp_path / "config.toml") == config
    assert resolve(PretrainConfig, {"vectors": "x.h5"}, base=config).source.kind == "stars"


@pytest.mark.usefixtures("stars")
@pytest.mark.parametrize(
    ("first", "given"),
    [
        ({}, {"catalogue": "gaia", "cath": "c"}),
        ({"cath": "c"}, {"catalogue": "gaia"}),
        ({"catalogue": "gaia"}, {"cath": "c"}),
    ],
)
def test_options_of_two_sources_are_refused(first: dict[str, Any], given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="options of different data sources cannot be mixed"):
        resolve(PretrainConfig, given, base=resolve(PretrainConfig, first))


def test_unknown_sources_and_options_are_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[source]\nkind = "planets"\n')
    with pytest.raises(
        ConfigError, match=r"c\.toml: source: kind: no such source; got 'planets', .*proteins"
    ):
        PretrainConfig.load(tmp_path / "c.toml")
    (tmp_path / "c.toml").write_text('source = "planets"\n')
    with pytest.raises(ConfigError, match=r"source: not a table"):
        PretrainConfig.load(tmp_path / "c.toml")
    with pytest.raises(ConfigError, match="colour: unknown option"):
        resolve(PretrainConfig, {"colour": "red"})
    with pytest.raises(ConfigError, match="Python objects"):
        SourceOptions().open()


def run(arguments: list[str], *, evaluation: bool = False) -> tuple[dict[str, Any], str]:
    seen: dict[str, Any] = {}
    app = typer.Typer(rich_markup_mode="markdown", add_completion=False)

    @app.command()
    @with_options(StarOptions, only=lambda option: option.field.metadata["evaluation"] or not evaluation)
    def look(name: str = typer.Argument(...), times: int = typer.Option(1), **chosen: Any) -> None:
        """Look at stars."""
        seen.update(chosen, name=name, times=times)

    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return seen, result.output


def test_fields_become_options_and_only_those_given_are_passed() -> None:
    assert run(["vega"])[0] == {"name": "vega", "times": 1}
    given = [
        "vega",
        "--times",
        "2",
        "--catalogue",
        "gaia",
        "--filter",
        "band=r",
        "--filter",
        "depth=3",
        "--no-deep",
    ]
    assert run(given)[0] == {
        "name": "vega",
        "times": 2,
        "catalogue": "gaia",
        "filters": {"band": "r", "depth": 3},
        "deep": False,
    }
    with pytest.raises(ConfigError, match="--filter band: not NAME=VALUE"):
        run(["vega", "--filter", "band"])


def test_help_lists_the_options_with_their_defaults() -> None:
    output = " ".join(run(["--help"])[1].split())
    assert "Look at stars." in output
    assert all(word in output for word in ("--catalogue", "File of stars.", "--deep", "[default: yes]"))
    assert "--catalogue" not in run(["--help"], evaluation=True)[1]
    assert run(["vega", "--no-deep"], evaluation=True)[0]["deep"] is False


def test_options_of_built_in_sources_do_not_clash_with_the_shared_ones() -> None:
    config = PretrainConfig()
    shared = {f.name for part in (config.data, config.model, config.train) for f in fields(part)}
    for kind, options in source_kinds().items():
        assert not shared & {f.name for f in fields(options)}, kind
