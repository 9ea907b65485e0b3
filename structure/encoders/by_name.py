"""The structure encoders by name, and what their configurations have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from protclip.errors import ConfigError
from protclip.structure.encoders.encoder import CDConvConfig
from protclip.structure.encoders.gearnet import GearNetConfig
from protclip.structure.protein import Protein


class EncoderConfig(Protocol):
    """Everything that a structure encoder is made of, but the weights."""

    @property
    def kind(self) -> str:
        """Name in options and model folders."""
        ...

    @property
    def tower(self) -> str:
        """Name for people."""
        ...

    @property
    def input(self) -> str:
        """``residues`` or ``geometry``: what the encoder sees of a residue besides its place."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Input features of a residue."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values (TOML types)."""
        ...

    def widened(self, by: int) -> EncoderConfig:
        """The same with ``by`` further input features of every residue."""
        ...

    def build(self) -> nn.Module:
        """An encoder with random weights; has ``encode_residues``, and takes ``node_input``."""
        ...

    def collate(self, proteins: Sequence[Protein]) -> Any:
        """Proteins packed for the encoder."""
        ...

    def facts(self) -> dict[str, Any]:
        """What the model card says beside name and input."""
        ...


ENCODERS: dict[str, type[CDConvConfig] | type[GearNetConfig]] = {
    config.kind: config for config in (CDConvConfig, GearNetConfig)
}


def encoder_config(name: str, size: str, **changes: Any) -> EncoderConfig:
    """The encoder ``name`` in a named size, with single values changed.

    Raises
    ------
    ConfigError
        If there is no such encoder, size or value.

    Examples
    --------
    >>> encoder_config("cdconv", "tiny", input="geometry").input
    'geometry'
    """
    if name not in ENCODERS:
        raise ConfigError("unknown structure encoder", got=repr(name), expected=" or ".join(ENCODERS))
    return ENCODERS[name].sized(size, **changes)


def take_encoder(options: dict[str, Any]) -> EncoderConfig:
    """Remove the one entry named after an encoder from ``options``, and read it.

    Raises
    ------
    KeyError
        If there is none.

    Examples
    --------
    >>> options = {"gearnet": {"hidden": [8]}, "noise": 0.1}
    >>> take_encoder(options).out_dim, options
    (8, {'noise': 0.1})
    """
    kind = next((name for name in ENCODERS if name in options), None)
    if kind is None:
        raise KeyError(" or ".join(ENCODERS))
    values: Mapping[str, Any] = options.pop(kind)
    return ENCODERS[kind].from_dict(values)
