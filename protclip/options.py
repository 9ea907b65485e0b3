"""Every option of pretraining as one plain, validated, round-tripping configuration."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from protclip.config import LossConfig
from protclip.errors import ConfigError
from protclip.files import read_toml, write_toml

Objective = Literal["setclip", "clip", "clip-all", "cca"]


@dataclass(frozen=True)
class DataConfig:
    """Where the items come from and how they are divided.

    Attributes
    ----------
    cath : str
        CATH folder or corpus file; empty for the corpus that ships with protclip.
    vectors : str
        HDF5 file of precomputed per-protein embeddings for the sequence side; empty for an encoder.
    unpaired_sequences, unpaired_structures : str
        FASTA file and folder of structures without partners; empty for none.
    min_plddt : float
        Residues of predicted models below this confidence (0-100) are left out.
    paired : float
        Fraction of the training domains that keep their structure-sequence pairing, by S35 cluster.
    pools : {"shuffled", "disjoint"}
        Whether an unpaired structure's partner is among the unpaired sequences.
    valid_fraction, test_fraction : float
        Share of the domains held out, by superfamily.
    split_seed : int
        Seed of the held-out split; ``train.seed`` decides which clusters keep their pairing.
    """

    cath: str = ""
    vectors: str = ""
    unpaired_sequences: str = ""
    unpaired_structures: str = ""
    min_plddt: float = 0.0
    paired: float = 0.5
    pools: Literal["shuffled", "disjoint"] = "shuffled"
    valid_fraction: float = 0.15
    test_fraction: float = 0.25
    split_seed: int = 0

    def __post_init__(self) -> None:
        _check_range("--paired", self.paired, 0, 1)
        _check_range("--valid-fraction", self.valid_fraction, 0, 0.9)
        _check_range("--test-fraction", self.test_fraction, 0, 0.9)
        if self.valid_fraction + self.test_fraction >= 0.95:
            raise ConfigError(
                "too little is left for training",
                where="--valid-fraction and --test-fraction",
                got=f"{self.valid_fraction} + {self.test_fraction}",
                expected="together below 0.95",
            )


@dataclass(frozen=True)
class ModelConfig:
    """The two towers and the shared space.

    Attributes
    ----------
    structure_input : {"residues", "geometry"}
        Whether the structure tower sees residue types (as published) or geometry alone.
    structure_size : {"tiny", "small", "published"}
        Size of the CDConv tower.
    sequence_encoder : str
        ESM-2 size by its published name, or a from-scratch shape.
    esm_weights : str
        Checkpoint file; empty to look in torch hub's cache and then download.
    esm_init : {"auto", "pretrained", "random"}
        ``auto`` trains from scratch, loudly, where no weights can be had.
    tune : {"auto", "frozen", "lora", "full"}
        How the sequence encoder is trained; ``auto`` is frozen for pretrained weights, full from scratch.
    dim : int
        Width of the shared space.
    """

    structure_input: Literal["residues", "geometry"] = "residues"
    structure_size: Literal["tiny", "small", "published"] = "small"
    sequence_encoder: str = "esm2_t6_8M_UR50D"
    esm_weights: str = ""
    esm_init: Literal["auto", "pretrained", "random"] = "auto"
    tune: Literal["auto", "frozen", "lora", "full"] = "auto"
    dim: int = 256

    def __post_init__(self) -> None:
        _check_range("--dim", self.dim, 2, 65536)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and the machine.

    Attributes
    ----------
    steps : int or None
        Optimiser steps; None takes ``epochs`` passes over the training items.
    batch_size : int
        N, rows per modality and step, over all processes.
    pairs_per_batch : int or None
        M; None chooses half the batch or the pairs' share, whichever is larger.
    micro_batch_size : int or None
        Rows that are in memory at once; the loss still sees all N (features are computed twice).
    head_lr, encoder_lr : float
        Peak learning rates of the heads (and of towers trained from scratch: ``scratch_lr``).
    init_heads : {"random", "cca"}
        Whether the heads start from a closed-form CCA of the pairs.
    checkpoint_seconds : float
        Longest time between two checkpoints, beside the one after each epoch.
    """

    objective: Objective = "setclip"
    epochs: int = 20
    steps: int | None = None
    batch_size: int = 64
    pairs_per_batch: int | None = None
    micro_batch_size: int | None = None
    head_lr: float = 1e-3
    scratch_lr: float = 1e-3
    encoder_lr: float = 1e-5
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.1
    clip_gradient: float = 1.0
    init_heads: Literal["random", "cca"] = "random"
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        _check_range("--epochs", self.epochs, 0, 10**6)
        _check_range("--batch-size", self.batch_size, 2, 10**7)
        _check_range("--devices", self.devices, 1, 10**5)
        _check_range("--num-nodes", self.num_nodes, 1, 10**5)
        _check_range("--workers", self.workers, 0, 10**4)
        _check_range("warmup_fraction", self.warmup_fraction, 0, 1)
        for name in ("head_lr", "scratch_lr", "encoder_lr", "clip_gradient"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError("must be positive", where=name, got=str(getattr(self, name)))
        if self.micro_batch_size is not None:
            _check_range("--micro-batch-size", self.micro_batch_size, 2, 10**7)


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run; ``config.toml`` of a run folder is this, resolved."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    def save(self, path: Path, remarks: Sequence[str] = ()) -> None:
        """Write as TOML, so that ``--config path`` repeats the run; ``remarks`` become comments."""
        write_toml(path, self.to_dict(), remarks)

    @classmethod
    def load(cls, path: Path) -> PretrainConfig:
        """Read TOML; entries that are left out keep their defaults."""
        loaded: PretrainConfig = from_dict(cls, read_toml(path), where=str(path))
        return loaded


def from_dict(cls: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """Build a (nested) configuration dataclass, checking names and types.

    Raises
    ------
    ConfigError
        Naming file and entry: unknown name, wrong type, value outside a closed set.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}: {key}"
        if key not in known:
            raise ConfigError("unknown entry", where=place, expected=", ".join(sorted(known)))
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError("not a table", where=place, got=repr(value), expected=f"[{key}]")
            arguments[key] = from_dict(typing.cast(type, hints[key]), value, where=place)
        else:
            arguments[key] = _checked(hints[key], value, place)
    return cls(**arguments)


def _checked(hint: Any, value: Any, place: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(
                "not one of the choices", where=place, got=repr(value), expected=str(get_args(hint))
            )
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        options = [a for a in get_args(hint) if a is not type(None)]
        for option in options[:-1]:
            try:
                return _checked(option, value, place)
            except ConfigError:
                continue
        return _checked(options[-1], value, place)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError("not a list", where=place, got=repr(value))
        return tuple(_checked(get_args(hint)[0], item, place) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError("wrong type", where=place, got=repr(value), expected=hint.__name__)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _check_range(where: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also False for NaN
        raise ConfigError("out of range", where=where, got=str(value), expected=f"{low} to {high}")


MACHINE_OPTIONS = frozenset({"device", "devices", "num_nodes", "workers", "checkpoint_seconds"})
"""Options that say where a run computes, not what; they may change when it is resumed."""


def merge(base: PretrainConfig, given: Mapping[str, Any]) -> PretrainConfig:
    """Put flat options into the sections they belong to, checked like entries of a TOML file.

    Examples
    --------
    >>> merge(PretrainConfig(), {"paired": 0.1, "epochs": 3}).data.paired
    0.1
    """
    values = base.to_dict()
    for section in ("data", "model", "train"):
        known = values[section]
        values[section] = {**known, **{key: value for key, value in given.items() if key in known}}
    merged: PretrainConfig = from_dict(PretrainConfig, values, where="options")
    return merged
