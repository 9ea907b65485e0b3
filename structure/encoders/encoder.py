"""The structure encoder: a hierarchy of continuous-discrete convolutions, and its sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protclip.errors import ConfigError
from protclip.structure.encoders.architecture import Architecture
from protclip.structure.encoders.cdconv import CDConv, edge_features
from protclip.structure.encoders.contacts import Neighbours
from protclip.structure.encoders.graph import (
    PUBLISHED_RADII,
    RESIDUE_TYPES,
    StructureBatch,
    collate_structures,
)
from protclip.structure.protein import Protein

StructureInput = Literal["residues", "geometry"]
SLOPE = 0.1
NORM_MOMENTUM = 0.2


@dataclass(frozen=True)
class CDConvConfig(Architecture):
    """Architecture of a :class:`CDConvEncoder`.

    Attributes
    ----------
    channels : tuple of int
        Features of every stage; between stages the chain is pooled by two.
    radii : tuple of float
        Angstrom, one per stage.
    kernel_channels : int
        K, the width of the convolution kernel.
    window : int
        Odd number of sequence offsets with weights of their own.
    base_width : float
        The convolution of a block works on channels * base_width / 64 features.
    blocks : int
        Residual blocks per stage.
    dropout : float
    input : "residues" or "geometry"
        What the encoder sees of a residue besides its place: its type, as published, or nothing. With
        residue types a structure's embedding can be matched to its sequence by composition alone.
    embedding_dim : int
        Width of the residue embedding.

    Raises
    ------
    ConfigError
        If a value is out of range or the numbers of channels and radii differ.

    Examples
    --------
    >>> CDConvConfig.sized("published", input="geometry").widths
    (128, 256, 512, 1024)
    """

    kind: ClassVar[str] = "cdconv"
    tower: ClassVar[str] = "CDConv"
    place: ClassVar[str] = "structure encoder"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"channels": (32, 48, 64, 96), "kernel_channels": 4, "dropout": 0.0},
        "small": {"channels": (64, 96, 128, 192), "kernel_channels": 8, "dropout": 0.1},
        "published": {},
    }

    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    radii: tuple[float, ...] = PUBLISHED_RADII
    kernel_channels: int = 24
    window: int = 21
    base_width: float = 32.0
    blocks: int = 2
    dropout: float = 0.2
    input: StructureInput = "residues"
    embedding_dim: int = 16

    def __post_init__(self) -> None:
        # TOML and JSON give lists.
        object.__setattr__(self, "channels", tuple(int(c) for c in self.channels))
        object.__setattr__(self, "radii", tuple(float(r) for r in self.radii))
        self._check(
            [
                (
                    "channels",
                    bool(self.channels) and min(self.widths) >= 1,
                    "one or more, each at least 64 / base_width",
                ),
                (
                    "radii",
                    len(self.radii) == len(self.channels),
                    f"{len(self.channels)} radii, one per stage",
                ),
                ("radii", all(0 < r < 1000 for r in self.radii), "above 0 Angstrom"),
                ("kernel_channels", self.kernel_channels >= 1, "at least 1"),
                ("window", self.window >= 1 and self.window % 2 == 1, "an odd number"),
                ("blocks", self.blocks >= 1, "at least 1"),
                ("dropout", 0 <= self.dropout < 1, "0 to below 1"),
                ("input", self.input in get_args(StructureInput), " or ".join(get_args(StructureInput))),
                ("embedding_dim", self.embedding_dim >= 1, "at least 1"),
            ]
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Features inside the blocks of every stage."""
        return tuple(int(c * self.base_width / 64) for c in self.channels)

    def widened(self, by: int) -> CDConvConfig:
        """The same with ``by`` further input features of every residue."""
        return replace(self, embedding_dim=self.embedding_dim + by)

    def build(self) -> CDConvEncoder:
        """An encoder with random weights."""
        return CDConvEncoder(self)

    def collate(self, proteins: Sequence[Protein]) -> StructureBatch:
        """Proteins packed for the encoder."""
        return collate_structures(proteins, radii=self.radii, window=self.window)

    def facts(self) -> dict[str, Any]:
        """For the model card: nothing beside name and input."""
        return {}


class NodeNorm(nn.BatchNorm1d):
    """Batch normalisation over nodes that can take a single one.

    A single node has no variance: it is normalised by the running statistics, which then stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise nodes [n, channels]."""
        if self.training and len(x) == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(x)


class _Project(nn.Sequential):
    """Norm, LeakyReLU, dropout, linear map: every map of the network is of this kind."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        dropout: float,
        activate: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        linear = nn.Linear(in_dim, out_dim, bias=False)
        nn.init.kaiming_normal_(linear.weight, SLOPE, generator=generator)
        before: list[nn.Module] = []
        if activate:
            before = [NodeNorm(in_dim, momentum=NORM_MOMENTUM), nn.LeakyReLU(SLOPE)]
        super().__init__(*before, nn.Dropout(dropout), linear)


class ResidualBlock(nn.Module):
    """Bottleneck: linear map down, continuous-discrete convolution, linear map up, plus the input.

    Where the number of features changes, the input goes through a map of its own.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        width: int,
        radius: float,
        config: CDConvConfig,
        *,
        activate_input: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        drop = config.dropout
        self.shortcut: nn.Module = nn.Identity()
        if in_dim != out_dim:
            self.shortcut = _Project(
                in_dim, out_dim, dropout=drop, activate=activate_input, generator=generator
            )
        self.down = _Project(in_dim, width, dropout=drop, activate=activate_input, generator=generator)
        self.conv = CDConv(
            width,
            width,
            kernel_channels=config.kernel_channels,
            window=config.window,
            radius=radius,
            generator=generator,
        )
        self.up = _Project(width, out_dim, dropout=drop, generator=generator)

    def forward(self, x: Tensor, features: Tensor, neighbours: Neighbours) -> Tensor:
        """Features [N, in_dim] -> [N, out_dim]."""
        inner = self.conv(self.down(x), features, neighbours)
        return cast(Tensor, self.up(inner) + self.shortcut(x))


class CDConvEncoder(nn.Module):
    """Structure tower: packed proteins -> one feature vector each.

    In evaluation mode a protein's features do not depend on the others in its batch. They do not change when
    the protein is rotated or moved.

    Parameters
    ----------
    config : CDConvConfig
    generator : torch.Generator, optional
        Source of the initial weights; torch's global one by default.

    Attributes
    ----------
    out_dim : int
    config : CDConvConfig

    Examples
    --------
    >>> import numpy as np
    >>> from protclip.structure.encoders.graph import collate_structures
    >>> from protclip.structure.protein import Protein
    >>> chains = [Protein.from_ca(s, s, 4 * np.eye(len(s), 3)) for s in ("G", "GAV")]
    >>> encoder = CDConvEncoder(CDConvConfig.sized("tiny")).eval()
    >>> encoder(collate_structures(chains)).shape
    torch.Size([2, 96])
    """

    def __init__(self, config: CDConvConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.out_dim = config.channels[-1]
        self.residue_dim = sum(config.channels)
        sees_types = config.input == "residues"
        self.embedding = nn.Embedding(len(RESIDUE_TYPES) if sees_types else 1, config.embedding_dim)
        nn.init.normal_(self.embedding.weight, generator=generator)
        self.stages = nn.ModuleList()
        in_dim = config.embedding_dim
        for out_dim, width, radius in zip(config.channels, config.widths, config.radii, strict=True):
            stage = nn.ModuleList()
            for _ in range(config.blocks):
                # Normalising the one constant embedding would leave nothing of it.
                activate = sees_types or in_dim != config.embedding_dim or len(self.stages) > 0
                stage.append(
                    ResidualBlock(
                        in_dim, out_dim, width, radius, config, activate_input=activate, generator=generator
                    )
                )
                in_dim = out_dim
            self.stages.append(stage)

    def forward(self, batch: StructureBatch, node_input: Tensor | None = None) -> Tensor:
        """Feature vectors [proteins, out_dim]: means over the nodes of the coarsest level.

        Parameters
        ----------
        batch : StructureBatch
        node_input : float tensor [residues with C-alpha, embedding_dim], optional
            Added to the residue embedding: what another network knows of each residue.

        Raises
        ------
        ConfigError
            If the batch was collated with other radii or another window than the encoder's.
        """
        nodes = self._stage_features(batch, node_input)[-1]
        return torch.segment_reduce(nodes, "mean", offsets=batch.levels[-1].start.long(), axis=0)

    def encode_residues(self, batch: StructureBatch) -> list[Tensor]:
        """Features of all stages for every residue.

        Returns
        -------
        list of tensors [L, sum(channels)]
            One per protein, a row per residue: the features of the nodes that stand for it, from finest to
            coarsest. Zero where a residue has no C-alpha.
        """
        stages = self._stage_features(batch)
        rows = torch.cat(
            [x.index_select(0, lv.node_of_residue) for x, lv in zip(stages, batch.levels, strict=True)], 1
        )
        whole = rows.new_zeros(sum(batch.lengths), rows.shape[1])
        return list(torch.split(whole.index_copy(0, batch.residue_row.long(), rows), list(batch.lengths)))

    def _stage_features(self, batch: StructureBatch, node_input: Tensor | None = None) -> list[Tensor]:
        """Node features after each stage."""
        config = self.config
        if batch.radii != config.radii or batch.window != config.window:
            raise ConfigError(
                "the batch was collated for another encoder",
                got=f"radii {batch.radii}, window {batch.window}",
                expected=f"radii {config.radii}, window {config.window}",
                hint="Pass the radii and window of the encoder's config to collate_structures",
            )
        table = self.embedding.weight
        if config.input == "residues":
            x = table.index_select(0, batch.residue_type)
        else:
            x = table.expand(len(batch.residue_type), -1)
        if node_input is not None:
            x = x + node_input
        stages: list[Tensor] = []
        for stage, level, radius in zip(self.stages, batch.levels, config.radii, strict=True):
            if level.finer is not None:
                one, other = level.finer
                x = (x.index_select(0, one) + x.index_select(0, other)) / 2
            features = edge_features(level, radius=radius, window=config.window, dtype=table.dtype)
            for block in cast(nn.ModuleList, stage):
                x = block(x, features, level.neighbours)
            stages.append(x)
        return stages
