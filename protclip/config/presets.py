"""Named weights and switches of the training objective, those of the publication and its code among them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from protclip.config.checks import check_choice
from protclip.config.loss import LossConfig
from protclip.config.schema import from_dict

SDD_CONSTANT = (3 / 16) / (2 * math.pi * 0.5**2)
"""The density constant of the released code: a biweight factor over ``2 pi h^2`` at ``h = 0.5``."""

_RELEASED = LossConfig(
    mmd_weight=0.2,
    sdd_weight=0.7,
    clip_weight=1.0,
    ssl_weight=0.15,
    temperature=0.05,
    learn_temperature=False,
    negatives="all",
    ssl_temperature=0.05,
    mmd_bandwidths=(1.0,),
    mmd_bandwidth_mode="fixed",
    mmd_degrees=(),
    sdd_reduce="sum",
    sdd_constant=SDD_CONSTANT,
    sdd_rescale=True,
    # Above anything that the factor was seen to reach, so that it changes the collapsed case only.
    sdd_rescale_max=1e6,
)

_PRESETS: dict[str, LossConfig] = {
    "default": LossConfig(),
    # The publication gives no weights for proteins: those of its ResNet experiments stand in.
    "paper": replace(
        _RELEASED,
        temperature=0.07,
        learn_temperature=True,
        negatives="paired",
        mmd_degrees=(2,),
        sdd_rescale=False,
    ),
    "released": _RELEASED,
    "released-vit": replace(_RELEASED, mmd_weight=0.1, sdd_weight=0.6, ssl_weight=0.1),
}

LOSS_PRESETS: tuple[str, ...] = tuple(_PRESETS)
"""Names that :func:`loss_preset` knows."""


def loss_preset(
    name: str = "default", *, objective: str = "setclip", where: str = "preset", **overrides: Any
) -> LossConfig:
    """Options of the training objective by name.

    Parameters
    ----------
    name : {"default", "paper", "released", "released-vit"}
        ``default``: averages instead of sums, small self-supervised weight, high initial temperature;
        safe at any batch size.  ``paper``: the published formulas (Gaussian and polynomial kernels,
        relative distance, two-way divergence as sums, learnable temperature from 0.07).
        ``released``: what the authors' code does (one Gaussian of bandwidth 1, fixed temperature 0.05, all
        negatives, summed and rescaled densities), with its ResNet weights; ``released-vit`` with
        its ViT weights.
    objective : str
        Terms to keep, see :meth:`LossConfig.for_objective`.  Overrides are applied first.
    where : str
        Where the name was given, for the message.
    **overrides
        Fields of :class:`LossConfig` to set on top of the preset.

    Raises
    ------
    ConfigError
        Unknown preset, objective or field, or an unusable value.

    Examples
    --------
    >>> loss_preset("released").negatives
    'all'
    >>> loss_preset("default", ssl_weight=0.0, temperature=0.1).temperature
    0.1
    >>> loss_preset("papper")
    Traceback (most recent call last):
    protclip.errors.ConfigError: preset: unknown choice; got 'papper', expected default, paper, released or \
released-vit. Did you mean paper?
    """
    check_choice(where, name, LOSS_PRESETS)
    values = {**_PRESETS[name].to_dict(), **overrides}
    return from_dict(LossConfig, values, where="loss").for_objective(objective)
