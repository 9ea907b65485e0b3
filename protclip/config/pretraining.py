"""Every option of pretraining as one plain, validated, round-tripping configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from protclip.config.checks import check_device
from protclip.config.loss import LossConfig, ObjectiveName
from protclip.config.schema import DATA, LEARNING, MACHINE, MODEL, PAIRING, Options, option
from protclip.config.sources import DEFAULT_SOURCE, SourceOptions, source_options
from protclip.errors import ConfigError

Objective = Literal[ObjectiveName, "cca"]
"""Those of the losses, and the closed form, which needs none."""
OBJECTIVES = (
    "setclip, clip (pairs only), clip-all (ceiling), cca (closed form), hard-pl, soft-pl, s-clip, transport, "
    "setclip+s-clip or setclip+transport"
)

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class DataConfig(Options):
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

    paired: float = option(
        0.5,
        "Fraction of the training items that keep their pairing, 0 to 1",
        panel=PAIRING,
        low=0,
        high=1,
    )
    pools: Literal["shuffled", "disjoint"] = option(
        "shuffled", "shuffled: unpaired partners are in the other pool; disjoint: they are not", panel=PAIRING
    )
    valid_fraction: float = option(
        0.15, "Items held out for choosing the epoch", panel=DATA, advanced=True, low=0, high=0.9
    )
    test_fraction: float = option(
        0.25, "Items held out for the final scores", panel=DATA, advanced=True, low=0, high=0.9
    )
    split_seed: int = option(0, "Seed of the held-out split", panel=DATA, advanced=True, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.valid_fraction + self.test_fraction >= 0.95:
            raise ConfigError(
                "too little is left for training",
                where="--valid-fraction and --test-fraction",
                got=f"{self.valid_fraction} + {self.test_fraction}",
                expected="together below 0.95",
            )


@dataclass(frozen=True)
class ModelConfig(Options):
    """The shared space.

    Attributes
    ----------
    dim : int
        Its width.
    """

    dim: int = option(256, "Width of the shared space", panel=MODEL, advanced=True, low=2, high=65536)


@dataclass(frozen=True)
class TrainConfig(Options):
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

    objective: Objective = option("setclip", OBJECTIVES, panel=LEARNING)
    epochs: int = option(20, "Passes over the training items", panel=MACHINE, low=0, high=10**6)
    steps: int | None = option(None, "Optimiser steps, instead of epochs", panel=MACHINE, low=0, high=10**9)
    batch_size: int | Literal["auto"] = option(
        64,
        "Rows per modality and step; auto: as many as stand for the training items",
        panel=LEARNING,
        settled=True,
        low=2,
        high=10**7,
    )
    pairs_per_batch: int | None = option(
        None,
        "Matched rows of a batch [default: three quarters, or the pairs' share]",
        panel=LEARNING,
        advanced=True,
        low=0,
    )
    micro_batch_size: int | None = option(
        None,
        "Rows in memory at once; the loss sees all",
        panel=MACHINE,
        advanced=True,
        low=2,
        high=10**7,
    )
    head_lr: float = option(
        1e-3, "Peak learning rate of the heads", panel=LEARNING, advanced=True, low=0, above=True
    )
    scratch_lr: float = option(
        1e-3,
        "Peak learning rate of towers trained from scratch",
        panel=LEARNING,
        advanced=True,
        low=0,
        above=True,
    )
    encoder_lr: float = option(
        1e-5, "Peak learning rate of pretrained towers", panel=LEARNING, advanced=True, low=0, above=True
    )
    weight_decay: float = option(1e-2, "Weight decay", panel=LEARNING, advanced=True, low=0)
    warmup_fraction: float = option(
        0.1, "Share of the steps over which the rates rise", panel=LEARNING, advanced=True, low=0, high=1
    )
    clip_gradient: float = option(
        1.0, "Largest norm of the gradient", panel=LEARNING, advanced=True, low=0, above=True
    )
    init_heads: Literal["random", "cca"] = option(
        "random", "How the heads start: random or cca (closed form)", panel=LEARNING, advanced=True
    )
    refit: Literal["auto", "none", "cca", "transport"] = option(
        "auto",
        "Replace the heads by linear maps after training: none, cca (of the pairs), transport (and of "
        "whole unpaired pools), or auto: if validation is clearly better with one of them",
        panel=LEARNING,
        advanced=True,
    )
    seed: int = option(0, "Seed of pairing, weights, batches and views", panel=LEARNING, low=0)
    device: str = option(
        "auto",
        "auto, cpu, cuda or cuda:N",
        panel=MACHINE,
        machine=True,
        evaluation=True,
        check=check_device,
    )
    devices: int = option(
        1, "Processes on this machine, one for each GPU", panel=MACHINE, machine=True, low=1, high=10**5
    )
    num_nodes: int = option(1, "Machines", panel=MACHINE, advanced=True, machine=True, low=1, high=10**5)
    strategy: Literal["ddp", "fsdp"] = option(
        "ddp",
        "Several processes: ddp keeps a tower whole on each, fsdp spreads its blocks",
        panel=MACHINE,
        advanced=True,
    )
    precision: Precision = option(
        "auto", "auto (bf16 on CUDA), fp32 or bf16", panel=MACHINE, advanced=True, evaluation=True
    )
    workers: int = option(
        0, "Processes that prepare batches", panel=MACHINE, advanced=True, machine=True, low=0, high=10**4
    )
    checkpoint_seconds: float = option(
        60.0, "Longest time between two checkpoints", panel=MACHINE, advanced=True, machine=True, low=0
    )
    plots: bool = option(
        True, "Draw curves.svg and embedding.svg", panel=MACHINE, advanced=True, machine=True
    )


@dataclass(frozen=True)
class PretrainConfig(Options):
    """One pretraining run; ``config.toml`` of a run folder is this, resolved."""

    source: SourceOptions = field(default_factory=lambda: source_options(DEFAULT_SOURCE)())
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
