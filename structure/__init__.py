"""A protein as geometry."""

from typing import TYPE_CHECKING

from protclip.lazy import attach

if TYPE_CHECKING:
    from protclip.structure.augment import augment_structure as augment_structure
    from protclip.structure.encoders.encoder import CDConvConfig as CDConvConfig
    from protclip.structure.encoders.encoder import CDConvEncoder as CDConvEncoder
    from protclip.structure.encoders.graph import StructureBatch as StructureBatch
    from protclip.structure.encoders.graph import collate_structures as collate_structures
    from protclip.structure.protein import Protein as Protein
    from protclip.structure.reading.chopping import Segment as Segment
    from protclip.structure.reading.chopping import parse_chopping as parse_chopping
    from protclip.structure.reading.read import read_chains as read_chains
    from protclip.structure.reading.read import read_structure as read_structure

__getattr__, __dir__, __all__ = attach(__name__)
