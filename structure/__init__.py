"""A protein as geometry."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protclip.structure.chopping import Segment, parse_chopping
    from protclip.structure.protein import Protein
    from protclip.structure.read import read_chains, read_structure

# Name -> module, imported on first use: readers need no torch, encoders no gemmi.
_EXPORTS = {
    "Protein": "protein",
    "Segment": "chopping",
    "parse_chopping": "chopping",
    "read_chains": "read",
    "read_structure": "read",
}

__all__ = ["Protein", "Segment", "parse_chopping", "read_chains", "read_structure"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"protclip.structure.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
