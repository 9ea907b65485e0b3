"""Options in TOML that no program can hold are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.errors import ConfigError
from protclip.files import DEEPEST, read_toml, toml_value

OPEN = {"list": ("[", "", "]"), "table": ("{a=", "1", "}")}


@pytest.mark.parametrize("kind", OPEN)
@given(levels=st.integers(1, 6000))
def test_levels_are_read_up_to_a_bound(kind: str, levels: int) -> None:
    start, middle, end = OPEN[kind]
    text = start * levels + middle + end * levels
    if levels < DEEPEST:
        assert str(toml_value(text)).count("[" if kind == "list" else "{") == levels
    else:
        with pytest.raises(ConfigError, match="too deep"):
            toml_value(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("steps = " + "9" * 5000, "too long"),
        ("[" + ".".join("a" * 5000) + "]\nb = 1", "too deep"),
        (".".join("a" * 5000) + " = 1", "too deep"),
        ("a = " + "[" * 5000, "too deep"),
    ],
)
def test_files_are_refused_by_name(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.toml.*{match}"):
        read_toml(tmp_path / "c.toml")


def test_a_long_number_as_an_option_is_refused() -> None:
    assert toml_value("9" * 4000) == int("9" * 4000)
    with pytest.raises(ConfigError, match="too long"):
        toml_value("9" * 5000)
