"""A protein as geometry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protclip.structure.augment import augment_structure
    from protclip.structure.encoders.encoder import CDConvConfig, CDConvEncoder
    from protclip.structure.encoders.graph import StructureBatch, collate_structures
    from protclip.structure.protein import Protein
    from protclip.structure.reading.chopping import Segment, parse_chopping
    from protclip.structure.reading.read import read_chains, read_structure

# Name -> module, imported on first use: readers need no torch, encoders no gemmi.
_EXPORTS = {
    "CDConvConfig": "encoders.encoder",
    "CDConvEncoder": "encoders.encoder",
    "Protein": "protein",
    "Segment": "reading.chopping",
    "StructureBatch": "encoders.graph",
    "augment_structure": "augment",
    "collate_structures": "encoders.graph",
    "parse_chopping": "reading.chopping",
    "read_chains": "reading.read",
    "read_structure": "reading.read",
}

__all__ = [
    "CDConvConfig",
    "CDConvEncoder",
    "Protein",
    "Segment",
    "StructureBatch",
    "augment_structure",
    "collate_structures",
    "parse_chopping",
    "read_chains",
    "read_structure",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"protclip.structure.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
