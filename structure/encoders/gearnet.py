"""torchdrug's GearNet as a structure encoder (the optional extra ``protclip[torchdrug]``).

The layers and their weights are torchdrug's; the graph is made here
(:mod:`protclip.structure.encoders.gearnet_graph`), and the sums over neighbours are torch's own, so that
nothing is compiled on use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protclip.errors import ConfigError
from protclip.structure.encoders.architecture import Architecture
from protclip.structure.encoders.encoder import StructureInput
from protclip.structure.encoders.gearnet_graph import GearNetBatch, collate_gearnet
from protclip.structure.encoders.graph import RESIDUE_TYPES
from protclip.structure.protein import Protein
from protclip.structure.torchdrug_import import INSTALL, import_torchdrug

Readout = Literal["sum", "mean"]

TORCHDRUG_ORDER = "GASPVTCILNDQKEMHFRYWX"
"""Letters in the order of torchdrug's residue features, so that weights mean the same there and here."""

_COLUMN = [TORCHDRUG_ORDER.index(letter) for letter in RESIDUE_TYPES]


@dataclass(frozen=True)
class GearNetConfig(Architecture):
    """Architecture of a :class:`GearNetEncoder`.

    Attributes
    ----------
    hidden : tuple of int
        Features after every layer; all of them together are the encoder's.
    reach : int
        Largest offset along the chain with a relation of its own.
    radius : float
        Angstrom.
    nearest : int
        Number of nearest residues.
    apart : int
        Least distance along the chain of the residues of an edge in space.
    readout : "sum" or "mean"
        Over the residues. The published sum tells the length of a protein; the mean does not.
    input : "residues" or "geometry"
        Whether a residue's type is its input, as published, or nothing is.
    extra : int
        Further input features of every residue, for what another network knows of it.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> GearNetConfig.sized("published").out_dim, GearNetConfig.sized("tiny").relations
    (3072, 7)
    """

    kind: ClassVar[str] = "gearnet"
    tower: ClassVar[str] = "GearNet"
    place: ClassVar[str] = "GearNet"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"hidden": (32,) * 3, "readout": "mean"},
        "small": {"hidden": (128,) * 4, "readout": "mean"},
        "published": {},
    }

    hidden: tuple[int, ...] = (512,) * 6
    reach: int = 2
    radius: float = 10.0
    nearest: int = 10
    apart: int = 5
    readout: Readout = "sum"
    input: StructureInput = "residues"
    extra: int = 0

    def __post_init__(self) -> None:
        # TOML and JSON give lists.
        object.__setattr__(self, "hidden", tuple(int(width) for width in self.hidden))
        object.__setattr__(self, "radius", float(self.radius))
        self._check(
            [
                ("hidden", bool(self.hidden) and min(self.hidden) >= 1, "one or more, each at least 1"),
                ("reach", self.reach >= 0, "0 or more"),
                ("radius", 0 < self.radius < 1000, "above 0 Angstrom"),
                ("nearest", self.nearest >= 1, "at least 1"),
                ("apart", self.apart >= 0, "0 or more"),
                ("readout", self.readout in get_args(Readout), " or ".join(get_args(Readout))),
                ("input", self.input in get_args(StructureInput), " or ".join(get_args(StructureInput))),
                ("extra", self.extra >= 0, "0 or more"),
            ]
        )

    @property
    def relations(self) -> int:
        """Number of kinds of edges."""
        return 2 * self.reach + 3

    @property
    def embedding_dim(self) -> int:
        """Input features of a residue."""
        return (len(TORCHDRUG_ORDER) if self.input == "residues" else 1) + self.extra

    @property
    def out_dim(self) -> int:
        """Features of a protein."""
        return sum(self.hidden)

    def widened(self, by: int) -> GearNetConfig:
        """The same with ``by`` further input features of every residue."""
        return replace(self, extra=self.extra + by)

    def build(self) -> GearNetEncoder:
        """An encoder with random weights."""
        return GearNetEncoder(self)

    def collate(self, proteins: Sequence[Protein]) -> GearNetBatch:
        """Proteins packed for the encoder."""
        return collate_gearnet(
            proteins, reach=self.reach, radius=self.radius, nearest=self.nearest, apart=self.apart
        )

    def facts(self) -> dict[str, Any]:
        """For the model card."""
        return {"needs": f"torchdrug, to train and to use it: {INSTALL}", "readout": self.readout}


class GearNetEncoder(nn.Module):
    """Structure tower: packed proteins -> one feature vector each, those of all layers together.

    In evaluation mode a protein's features do not depend on the others in its batch. They do not change when
    the protein is rotated or moved.

    Parameters
    ----------
    config : GearNetConfig

    Attributes
    ----------
    out_dim : int
    config : GearNetConfig
    net : torchdrug.models.GearNet
        Without edge message passing.

    Raises
    ------
    MissingTorchdrugError
        If torchdrug is not installed.
    """

    def __init__(self, config: GearNetConfig) -> None:
        super().__init__()
        self.config = config
        self.out_dim = self.residue_dim = config.out_dim
        self.net: nn.Module = import_torchdrug("the GearNet structure encoder").models.GearNet(
            input_dim=config.embedding_dim,
            hidden_dims=list(config.hidden),
            num_relation=config.relations,
            short_cut=True,
            batch_norm=True,
            concat_hidden=True,
            readout=config.readout,
        )
        # torchdrug's own sums and readout want a compiled extension and torch-scatter.
        for layer in cast(nn.ModuleList, self.net.layers):
            object.__setattr__(layer, "message_and_aggregate", partial(_sum_messages, config.relations))
        self.net.readout = _Readout(config.readout)
        self.register_buffer("column", torch.tensor(_COLUMN), persistent=False)
        self.column: Tensor

    def forward(self, batch: GearNetBatch, node_input: Tensor | None = None) -> Tensor:
        """Feature vectors [proteins, out_dim].

        Parameters
        ----------
        batch : GearNetBatch
        node_input : float tensor [residues with C-alpha, embedding_dim], optional
            Added to the input features: what another network knows of each residue.

        Raises
        ------
        ConfigError
            If the batch was collated with another number of relations than the encoder's.
        """
        features: Tensor = self._features(batch, node_input)["graph_feature"]
        return features

    def encode_residues(self, batch: GearNetBatch) -> list[Tensor]:
        """Features of all layers for every residue.

        Returns
        -------
        list of tensors [L, out_dim]
            One per protein, a row per residue; zero where a residue has no C-alpha.
        """
        rows: Tensor = self._features(batch, None)["node_feature"]
        whole = rows.new_zeros(sum(batch.lengths), rows.shape[1])
        return list(torch.split(whole.index_copy(0, batch.residue_row.long(), rows), list(batch.lengths)))

    def _features(self, batch: GearNetBatch, node_input: Tensor | None) -> dict[str, Tensor]:
        if not isinstance(batch, GearNetBatch) or batch.relations != self.config.relations:
            raise ConfigError(
                "the batch was collated for another encoder",
                got=repr(batch),
                expected=f"a GearNetBatch of {self.config.relations} relations",
                hint="Collate with the config of the encoder",
            )
        dtype = next(self.net.parameters()).dtype
        if self.config.input == "residues":
            types = self.column.index_select(0, batch.residue_type)
            x = F.one_hot(types, len(TORCHDRUG_ORDER)).to(dtype)
        else:
            x = torch.ones(len(batch.residue_type), 1, dtype=dtype, device=batch.residue_type.device)
        if self.config.extra:
            x = F.pad(x, (0, self.config.extra))
        if node_input is not None:
            x = x + node_input
        features: dict[str, Tensor] = self.net(batch, x)
        return features


def _sum_messages(relations: int, batch: GearNetBatch, x: Tensor) -> Tensor:
    """Sums [N, relations * d] of the features [N, d] of every node's neighbours, relation by relation."""
    return F.embedding_bag(batch.source, x, batch.first, mode="sum").view(len(x), relations * x.shape[1])


class _Readout(nn.Module):
    """Sum or mean over the residues of each protein, in full precision."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, batch: GearNetBatch, x: Tensor) -> Tensor:
        return torch.segment_reduce(x.float(), self.kind, offsets=batch.start, axis=0)
