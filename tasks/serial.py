"""Serial fusion: the sequence tower's residue features become node input of the structure tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from protclip.errors import ConfigError, DataError
from protclip.modalities.base import Modality
from protclip.modalities.sequence.adapter import SequenceEncoder, SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.structure.encoders.encoder import CDConvEncoder

WIDTH = 64
"""Input features of a residue that are made from its sequence features."""


class SerialTower(nn.Module):
    """Residue features of the sequence tower -> linear map -> added to the input of the structure tower.

    Parameters
    ----------
    sides : mapping of str to Modality
        ``structure``, whose encoder has room for the features (:func:`widen`), and ``sequence``.

    Raises
    ------
    ConfigError
        If one of the two is missing or of another kind.
    """

    def __init__(self, sides: Mapping[str, Modality[Any]]) -> None:
        super().__init__()
        structure, sequence = sides.get("structure"), sides.get("sequence")
        if not isinstance(structure, StructureModality) or not isinstance(sequence, SequenceModality):
            raise ConfigError(
                "serial fusion needs a structure tower and a sequence tower",
                where="--fusion serial",
                got=" and ".join(type(side).__name__ for side in sides.values()),
            )
        self.structure = cast(CDConvEncoder, structure.encoder)
        self.sequence: SequenceEncoder = sequence.encoder
        self.own = structure.architecture.embedding_dim - WIDTH
        if self.own < 1:
            raise ConfigError("the structure tower has no room for sequence features", hint="Widen it first")
        self.norm = nn.LayerNorm(self.sequence.out_dim)
        self.enter = nn.Linear(self.sequence.out_dim, WIDTH)
        self.out_dim = self.structure.out_dim

    def forward(self, batches: Mapping[str, Any], *, frozen: Sequence[str] = ()) -> Tensor:
        """Features [n, out_dim] of the same proteins as structures and as sequences."""
        graph, tokens = batches["structure"], batches["sequence"]
        if tuple(graph.lengths) != tuple(tokens.sizes):
            raise DataError(
                "structures and sequences differ in length",
                got=f"{list(graph.lengths)[:5]} and {list(tokens.sizes)[:5]} residues",
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and "sequence" not in frozen):
            residues = self.sequence.residues(tokens)
        entering = self.enter(self.norm(residues.index_select(0, graph.residue_row)))
        # The residue embedding keeps its own columns.
        entering = nn.functional.pad(entering, (self.own, 0))
        out: Tensor = self.structure(graph, entering)
        return out


@torch.no_grad()
def widen(side: StructureModality, generator: torch.Generator | None = None) -> StructureModality:
    """A structure tower with room for sequence features whose outputs are, at first, those of ``side``.

    The new input columns of the first block start at zero.

    Examples
    --------
    >>> from protclip.structure.encoders.encoder import CDConvConfig
    >>> side = StructureModality(CDConvConfig.sized("tiny"))
    >>> widen(side).architecture.embedding_dim
    80
    """
    own = side.architecture.embedding_dim
    wide = StructureModality(side.architecture.widened(WIDTH), **side.view, min_plddt=side.min_plddt)
    wide.pretrained = side.pretrained
    old, new = side.encoder.state_dict(), wide.encoder.state_dict()
    for name, value in new.items():
        source = old[name]
        if source.shape == value.shape:
            value.copy_(source)
        else:
            # The last axis has grown by WIDTH: that of the input features, of which there may be several.
            if value.ndim == 2:
                value.zero_()
            sets = source.shape[-1] // own
            into = value.unflatten(-1, (sets, own + WIDTH)).narrow(-1, 0, own)
            into.copy_(source.unflatten(-1, (sets, own)))
    return wide
