"""Every option of pretraining as one plain, validated, round-tripping configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from protclip.config.checks import check_range
from protclip.config.loss import LossConfig, ObjectiveName
from protclip.config.schema import DATA, LOSS, MODEL, RUN, TRAIN, from_dict, option, plain
from protclip.config.sources import DEFAULT_SOURCE, SourceOptions, source_for, source_options
from protclip.errors import ConfigError
from protclip.files import read_toml, write_toml

Objective = Literal[ObjectiveName, "cca"]
"""Those of the losses, and the closed form, which needs none."""
OBJECTIVES = (
    "setclip, clip (pairs only), clip-all (ceiling), cca (closed form), hard-pl, soft-pl, s-clip, transport, "
    "setclip+s-clip or setclip+transport"
)


@dataclass(frozen=True)
class DataConfig:
    """How the items of any source are divided into pairs, pools and held-out parts.

    Attributes
    ----------
    paired : float
        Fraction of the training items that keep their pairing, by groups of near-duplicates.
    pools : {"shuffled", "disjoint"}
        Whether an unpaired item's partner is in the other modality's pool.
    valid_fraction, test_fraction : float
        Share of the items held out, unless the source has a split of its own.
    split_seed : int
        Seed of the held-out split; ``train.seed`` decides which groups keep their pairing.
    """

    paired: float = option(0.5, "Fraction of the training items that keep their pairing, 0 to 1", panel=DATA)
    pools: Literal["shuffled", "disjoint"] = option(
        "shuffled", "shuffled: unpaired partners are in the other pool; disjoint: they are not", panel=DATA
    )
    valid_fraction: float = option(0.15, "Items held out for choosing the epoch", panel=DATA)
    test_fraction: float = option(0.25, "Items held out for the final scores", panel=DATA)
    split_seed: int = option(0, "Seed of the held-out split", panel=DATA)

    def __post_init__(self) -> None:
        check_range("--paired", self.paired, 0, 1)
        check_range("--valid-fraction", self.valid_fraction, 0, 0.9)
        check_range("--test-fraction", self.test_fraction, 0, 0.9)
        if self.valid_fraction + self.test_fraction >= 0.95:
            raise ConfigError(
                "too little is left for training",
                where="--valid-fraction and --test-fraction",
                got=f"{self.valid_fraction} + {self.test_fraction}",
                expected="together below 0.95",
            )


@dataclass(frozen=True)
class ModelConfig:
    """The shared space.

    Attributes
    ----------
    dim : int
        Its width.
    """

    dim: int = option(256, "Width of the shared space", panel=MODEL)

    def __post_init__(self) -> None:
        check_range("--dim", self.dim, 2, 65536)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and the machine.

    Attributes
    ----------
    steps : int or None
        Optimiser steps; None takes ``epochs`` passes over the training items.
    batch_size : int or "auto"
        N, rows per modality and step, over all processes; ``auto`` takes as many as stand for the
        distribution of the training items, see :mod:`protclip.training.batch_size`.
    pairs_per_batch : int or None
        M; None chooses three quarters of the batch or the pairs' share, whichever is larger.
    micro_batch_size : int or None
        Rows that are in memory at once; the loss still sees all N (features are computed twice).
    head_lr, encoder_lr : float
        Peak learning rates of the heads (and of towers trained from scratch: ``scratch_lr``).
    init_heads : {"random", "cca"}
        Whether the heads start from a closed-form CCA of the pairs.
    refit : {"auto", "none", "cca", "transport"}
        Whether the trained heads are replaced by linear maps that are fitted in closed form; ``auto`` where
        validation items are found clearly better by them.
    checkpoint_seconds : float
        Longest time between two checkpoints, beside the one after each epoch.
    plots : bool
        Whether the run folder gets pictures; that of the embedding takes seconds.
    """

    objective: Objective = option("setclip", OBJECTIVES, panel=LOSS)
    epochs: int = option(20, "Passes over the training items", panel=TRAIN)
    steps: int | None = option(None, "Optimiser steps, instead of epochs", panel=TRAIN)
    batch_size: int | Literal["auto"] = option(
        64, "Rows per modality and step; auto: as many as stand for the training items", panel=TRAIN
    )
    pairs_per_batch: int | None = option(
        None, "Matched rows of a batch [default: three quarters, or the pairs' share]", panel=TRAIN
    )
    micro_batch_size: int | None = option(None, "Rows in memory at once; the loss sees all", panel=TRAIN)
    head_lr: float = option(1e-3, "Peak learning rate of the heads", panel=TRAIN)
    scratch_lr: float = option(1e-3, "... of towers trained from scratch", panel=TRAIN)
    encoder_lr: float = option(1e-5, "... of pretrained towers", panel=TRAIN)
    weight_decay: float = option(1e-2, "Weight decay", panel=TRAIN)
    warmup_fraction: float = option(0.1, "Share of the steps over which the rates rise", panel=TRAIN)
    clip_gradient: float = option(1.0, "Largest norm of the gradient", panel=TRAIN)
    init_heads: Literal["random", "cca"] = option("random", "random or cca (closed-form start)", panel=TRAIN)
    refit: Literal["auto", "none", "cca", "transport"] = option(
        "auto",
        "Replace the heads by linear maps after training: none, cca (of the pairs), transport (and of "
        "whole unpaired pools), or auto: if validation is clearly better with one of them",
        panel=LOSS,
    )
    seed: int = option(0, "Seed of pairing, weights, batches and views", panel=TRAIN)
    device: str = option("auto", "auto, cpu, cuda or cuda:N", panel=RUN)
    devices: int = option(1, "Processes on this machine", panel=RUN)
    num_nodes: int = option(1, "Machines", panel=RUN)
    strategy: Literal["ddp", "fsdp"] = option(
        "ddp", "Several processes: ddp keeps a tower whole on each, fsdp spreads its blocks", panel=RUN
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "auto (bf16 on CUDA), fp32 or bf16", panel=RUN
    )
    workers: int = option(0, "Processes that prepare batches", panel=RUN)
    checkpoint_seconds: float = option(60.0, "Longest time between two checkpoints", panel=RUN)
    plots: bool = option(True, "Draw curves.svg and embedding.svg", panel=RUN)

    def __post_init__(self) -> None:
        check_range("--epochs", self.epochs, 0, 10**6)
        if isinstance(self.batch_size, int):
            check_range("--batch-size", self.batch_size, 2, 10**7)
        check_range("--devices", self.devices, 1, 10**5)
        check_range("--num-nodes", self.num_nodes, 1, 10**5)
        check_range("--workers", self.workers, 0, 10**4)
        check_range("warmup_fraction", self.warmup_fraction, 0, 1)
        for name in ("head_lr", "scratch_lr", "encoder_lr", "clip_gradient"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError("must be positive", where=name, got=str(getattr(self, name)))
        if self.micro_batch_size is not None:
            check_range("--micro-batch-size", self.micro_batch_size, 2, 10**7)


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run; ``config.toml`` of a run folder is this, resolved."""

    source: SourceOptions = field(default_factory=lambda: source_options(DEFAULT_SOURCE)())
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        values = {key: plain(value) for key, value in dataclasses.asdict(self).items()}
        return {**values, "source": {"kind": self.source.kind, **values["source"]}}

    def save(self, path: Path, remarks: Sequence[str] = ()) -> None:
        """Write as TOML, so that ``--config path`` repeats the run; ``remarks`` become comments."""
        write_toml(path, self.to_dict(), remarks)

    @classmethod
    def load(cls, path: Path) -> PretrainConfig:
        """Read TOML; entries that are left out keep their defaults."""
        return cls.from_values(read_toml(path), where=str(path))

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, where: str) -> PretrainConfig:
        """From nested plain values; ``source.kind`` says which source's options ``source`` holds.

        Raises
        ------
        ConfigError
            See :func:`protclip.config.schema.from_dict`.
        """
        values = dict(values)
        source = values.pop("source", {})
        if not isinstance(source, Mapping):
            raise ConfigError("not a table", where=f"{where}: source", got=repr(source), expected="[source]")
        entries = dict(source)
        kind = entries.pop("kind", DEFAULT_SOURCE)
        options = from_dict(source_options(kind, f"{where}: source: kind"), entries, where=f"{where}: source")
        loaded: PretrainConfig = from_dict(cls, values, where=where)
        return dataclasses.replace(loaded, source=options)


def named_config(path: Path) -> Path:
    """The file, or that of the published setting of this name which comes with protclip."""
    shipped = Path(__file__).parent / "published" / f"{path.name}.toml"
    return shipped if not path.exists() and path.name == str(path) and shipped.exists() else path


MACHINE_OPTIONS = frozenset({"device", "devices", "num_nodes", "workers", "checkpoint_seconds", "plots"})
"""Options that say where a run computes and what it draws; they may change when it is resumed."""


def merge(base: PretrainConfig, given: Mapping[str, Any]) -> PretrainConfig:
    """Put flat options into the sections they belong to, checked like entries of a TOML file.

    An option of another source than ``base``'s changes the source, unless ``base`` has options of its own.

    Raises
    ------
    ConfigError
        Unknown options, options of two sources at once, and whatever :func:`protclip.config.schema.from_dict`
        refuses.

    Examples
    --------
    >>> merge(PretrainConfig(), {"paired": 0.1, "epochs": 3}).data.paired
    0.1
    """
    base = dataclasses.replace(base, source=source_for(base.source, given))
    values = base.to_dict()
    left = dict(given)
    for section in ("source", "data", "model", "train"):
        for field_ in dataclasses.fields(getattr(base, section)):
            if field_.name in left:
                value = left.pop(field_.name)
                if isinstance(value, Mapping):  # entries of their own: those that are not named stay
                    value = {**values[section][field_.name], **value}
                values[section][field_.name] = value
    if left:
        raise ConfigError("unknown option", where=", ".join(sorted(left)))
    return PretrainConfig.from_values(values, where="options")
