"""Options of the protein source: a CATH corpus, its encoders, and further data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from protclip.config.schema import DATA, MODEL, PAIRING, option
from protclip.config.sources import SourceOptions


@dataclass(frozen=True)
class ProteinOptions(SourceOptions):
    """Structures of a CATH corpus on the left, sequences (or vectors of them) on the right.

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
    structure_input : {"residues", "geometry"}
        Whether the structure tower sees residue types (as published) or geometry alone.
    structure_encoder : {"cdconv", "gearnet"}
        Kind of the structure tower; GearNet is torchdrug's, which has to be installed.
    structure_size : {"tiny", "small", "published"}
        Size of the structure tower.
    sequence_encoder : str
        ESM-2 size by its published name, or a from-scratch shape.
    esm_weights : str
        Checkpoint file; empty to look in torch hub's cache and then download.
    esm_init : {"auto", "pretrained", "random"}
        ``auto`` trains from scratch, loudly, where no weights can be had.
    tune : {"auto", "frozen", "lora", "full"}
        How the sequence encoder is trained; ``auto`` is frozen for pretrained weights, full from scratch.
    """

    kind: ClassVar[str] = "proteins"
    implementation: ClassVar[str] = "protclip.sources.proteins:ProteinSource"

    cath: str = option(
        "",
        "CATH folder or corpus file [default: the small corpus shipped with protclip]",
        panel=DATA,
        evaluation=True,
    )
    unpaired_sequences: str = option("", "FASTA file of sequences without structure", panel=PAIRING)
    unpaired_structures: str = option("", "Folder of structures without partner", panel=PAIRING)
    vectors: str = option(
        "",
        "HDF5 file of per-protein embeddings that take the sequence side",
        panel=DATA,
        evaluation=True,
    )
    min_plddt: float = option(
        0.0,
        "Leave out less confident residues of predicted models (pLDDT, 0 to 100)",
        panel=DATA,
        advanced=True,
        low=0,
        high=100,
    )
    structure_input: Literal["residues", "geometry"] = option(
        "residues", "residues (as published) or geometry (no residue types)", panel=MODEL
    )
    structure_encoder: Literal["cdconv", "gearnet"] = option(
        "cdconv", "cdconv, or gearnet (needs the extra torchdrug)", panel=MODEL, advanced=True
    )
    structure_size: Literal["tiny", "small", "published"] = option(
        "small", "Structure tower: tiny, small or published", panel=MODEL
    )
    sequence_encoder: str = option(
        "esm2_t6_8M_UR50D", "ESM-2 size by its published name, or scratch", panel=MODEL
    )
    esm_weights: str = option("", "ESM-2 checkpoint file", panel=MODEL, advanced=True)
    esm_init: Literal["auto", "pretrained", "random"] = option(
        "auto",
        "auto, pretrained or random; auto trains from scratch without weights",
        panel=MODEL,
        advanced=True,
        settled=True,
    )
    tune: Literal["auto", "frozen", "lora", "full"] = option(
        "auto",
        "Training of the sequence encoder: frozen, lora, full, or auto (frozen if pretrained)",
        panel=MODEL,
        settled=True,
    )

    def title(self) -> str:
        """Held-out superfamilies, and what the structure tower saw."""
        return f"domains of held-out superfamilies (structure input: {self.structure_input})"
