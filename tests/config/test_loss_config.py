"""The options of the objective."""

import dataclasses
import math
import subprocess
import sys

import pytest

from protclip.config.checks import check_number
from protclip.config.loss import LossConfig
from protclip.config.presets import LOSS_PRESETS, SDD_CONSTANT, loss_preset
from protclip.config.schema import from_dict
from protclip.errors import ConfigError


@pytest.mark.parametrize("preset", LOSS_PRESETS)
def test_plain_values_round_trip(preset):
    config = loss_preset(preset)
    values = config.to_dict()
    assert from_dict(LossConfig, values, where="loss") == config
    assert all(isinstance(value, (bool, int, float, str, list)) for value in values.values())


def test_every_field_is_documented():
    documentation = LossConfig.__doc__
    for field in dataclasses.fields(LossConfig):
        assert field.name in documentation, field.name


def test_released_values():
    released = loss_preset("released")
    assert (released.mmd_weight, released.sdd_weight, released.clip_weight, released.ssl_weight) == (
        0.2,
        0.7,
        1.0,
        0.15,
    )
    assert (released.mmd_bandwidths, released.mmd_degrees, released.mmd_estimator) == ((1.0,), (), "biased")
    assert (released.temperature, released.learn_temperature, released.negatives) == (0.05, False, "all")
    assert (released.sdd_reduce, released.sdd_self_term, released.sdd_rescale) == ("sum", True, True)
    assert released.sdd_constant == pytest.approx(0.11937, abs=5e-6)
    assert pytest.approx(3 / 16 / (2 * math.pi / 4)) == SDD_CONSTANT
    vit = loss_preset("released-vit")
    assert (vit.mmd_weight, vit.sdd_weight, vit.clip_weight, vit.ssl_weight) == (0.1, 0.6, 1.0, 0.1)


def test_paper_differs_from_released_where_the_publication_does():
    paper, released = loss_preset("paper").to_dict(), loss_preset("released").to_dict()
    differing = {key for key in paper if paper[key] != released[key]}
    assert differing == {"temperature", "learn_temperature", "negatives", "mmd_degrees", "sdd_rescale"}


@pytest.mark.parametrize("objective", ["clip", "clip-all"])
def test_contrastive_objectives_have_one_term(objective):
    config = loss_preset("default", objective=objective, mmd_weight=5.0, cs_weight=1.0, contrast="sigmoid")
    assert (config.mmd_weight, config.sdd_weight, config.ssl_weight, config.cs_weight) == (0.0,) * 4
    assert config.contrast == "sigmoid"
    assert config.clip_weight == 1.0


def test_rivals_of_the_terms_are_off_unless_asked_for():
    for preset in LOSS_PRESETS:
        config = loss_preset(preset)
        assert (config.contrast, config.cs_weight, config.sdd_queue) == ("softmax", 0.0, 0)
    for objective in ("setclip", "setclip+s-clip", "setclip+transport"):
        assert loss_preset(objective=objective, cs_weight=0.5).cs_weight == 0.5
    for objective in ("hard-pl", "soft-pl", "s-clip", "transport"):
        assert loss_preset(objective=objective, cs_weight=0.5).cs_weight == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mmd_wieght": 1.0}, "loss: mmd_wieght: unknown entry.*Did you mean mmd_weight?"),
        ({"mmd_weight": "much"}, "mmd_weight: wrong type; got 'much', expected a number >= 0"),
        ({"mmd_weight": True}, "mmd_weight: wrong type; got True"),
        ({"sdd_weight": math.nan}, "sdd_weight: out of range; got nan"),
        ({"sdd_weight": math.inf}, "sdd_weight"),
        ({"clip_weight": -0.1}, "clip_weight"),
        ({"temperature": 0}, "temperature: out of range; got 0, expected a number > 0"),
        ({"temperature": 0.001}, "temperature: lower than the limit.*expected >= 1 / max_scale = 0.01"),
        ({"block_size": 1.0}, "block_size: wrong type; got 1.0, expected a whole number >= 0"),
        ({"learn_temperature": "yes"}, "learn_temperature: not a switch"),
        ({"contrast": "sigmoidal"}, "contrast: unknown choice; got 'sigmoidal'.*Did you mean sigmoid?"),
        ({"cs_weight": -1.0}, "cs_weight: out of range; got -1.0, expected a number >= 0"),
        ({"cs_bandwidth": 0.0}, "cs_bandwidth: out of range; got 0.0, expected a number > 0"),
        ({"sdd_queue": 10.0}, "sdd_queue: wrong type; got 10.0, expected a whole number >= 0"),
        ({"negatives": "hard"}, "negatives: unknown choice"),
        ({"mmd_bandwidths": "1"}, "mmd_bandwidths: not a list"),
        ({"mmd_bandwidths": [], "mmd_degrees": []}, "no kernel is left"),
    ],
)
def test_errors(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(LossConfig, values, where="loss")


def test_unknown_names():
    with pytest.raises(ConfigError, match="preset: unknown choice; got 'best'"):
        loss_preset("best")
    with pytest.raises(
        ConfigError, match=r"objective: unknown choice; got 'clip_all'.*Did you mean clip-all?"
    ):
        loss_preset("default", objective="clip_all")
    with pytest.raises(ConfigError, match="x: out of range; got 3, expected a number from 0 to 2"):
        check_number("x", 3, high=2)


def test_lists_become_tuples():
    config = LossConfig(mmd_bandwidths=[1, 2], mmd_degrees=[3])
    assert config.mmd_bandwidths == (1, 2)
    assert hash(config) == hash(LossConfig(mmd_bandwidths=(1, 2), mmd_degrees=(3,)))


def test_options_need_no_torch():
    code = "import sys, protclip.config.loss, protclip.config.presets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
