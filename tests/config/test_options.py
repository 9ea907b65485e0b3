"""Options: TOML round trip, flat options, and refusals that name the entry."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.errors import ConfigError


def test_resolved_configuration_round_trips(tmp_path: Path) -> None:
    config = resolve(
        PretrainConfig,
        {"paired": 0.1, "steps": 7, "structure_input": "geometry", "objective": "clip", "batch_size": 8},
    )
    config.save(tmp_path / "config.toml")
    assert PretrainConfig.load(tmp_path / "config.toml") == config
    assert config.data.paired == 0.1
    assert config.train.steps == 7


def test_entries_left_out_keep_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[train]\nepochs = 2\n[loss]\nsdd_weight = 0.5\n")
    config = PretrainConfig.load(tmp_path / "c.toml")
    assert config.train.epochs == 2
    assert config.loss.sdd_weight == 0.5
    assert config.data == PretrainConfig().data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3\n", r"c\.toml: train: epoch: unknown entry"),
        ("[train]\nepochs = 'many'\n", r"train: epochs: wrong type; got 'many', expected a whole number"),
        ("[train]\nepochs = true\n", r"epochs: wrong type; got True"),
        ("[train]\nepochs = 1.5\n", r"epochs: wrong type; got 1.5"),
        (
            "[data]\npaired = 1.5\n",
            r"c\.toml: data: paired: out of range; got 1.5, expected a number from 0 to 1",
        ),
        ("[data]\npaired = nan\n", r"data: paired: out of range; got nan"),
        ("[data]\npools = 'both'\n", r"pools: unknown choice; got 'both', expected shuffled or disjoint"),
        ("[data]\nvalid_fraction = 0.5\ntest_fraction = 0.5\n", r"too little is left for training"),
        ("train = 3\n", r"train: not a table; got 3, expected \[train\]"),
        ("[train]\nhead_lr = -1.0\n", r"head_lr: out of range; got -1.0, expected a number > 0"),
        ("[train\n", r"c\.toml: not a TOML file"),
        ("[loss]\nsdd_reduce = 'max'\n", r"sdd_reduce"),
        ("[loss]\nmmd_bandwidths = ['a']\n", r"mmd_bandwidths"),
    ],
)
def test_bad_configuration_names_file_entry_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        PretrainConfig.load(tmp_path / "c.toml")


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        PretrainConfig.load(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a TOML file"):
        PretrainConfig.load(tmp_path / "b.toml")


def test_bad_flat_options_are_refused_like_entries() -> None:
    with pytest.raises(ConfigError, match=r"--objective: unknown choice; got 'cllip'.*Did you mean clip"):
        resolve(PretrainConfig, {"objective": "cllip"})


@given(data=st.data())
def test_damaged_configuration_is_read_or_refused(data: st.DataObject) -> None:
    """Truncated, flipped, doubled or foreign bytes: a configuration, or an error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        PretrainConfig().save(path)
        content = bytearray(path.read_bytes())
        kind = data.draw(st.sampled_from(["cut", "flip", "insert", "double", "swap", "nulls"]))
        at = data.draw(st.integers(0, len(content) - 1))
        if kind == "cut":
            del content[at:]
        elif kind == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=20))
        elif kind == "double":
            content += content[at:]
        elif kind == "swap":
            lines = content.splitlines()
            data.draw(st.randoms(use_true_random=False)).shuffle(lines)
            content = bytearray(b"\n".join(lines))
        else:
            content[at : at + 8] = bytes(8)
        path.write_bytes(bytes(content))
        with contextlib.suppress(ConfigError):
            assert isinstance(PretrainConfig.load(path), PretrainConfig)
