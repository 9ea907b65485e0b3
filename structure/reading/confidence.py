"""Predicted models: where pLDDT comes from, and when a B-factor may be taken for it."""

from __future__ import annotations

import re

import gemmi
import numpy as np
from numpy.typing import NDArray

from protclip.structure.reading.blocks import Block

_PREDICTORS = (
    b"alphafold", b"colabfold", b"esmfold", b"omegafold", b"openfold", b"rosettafold", b"boltz", b"chai-1"
)  # fmt: skip
_EXPERIMENT = re.compile(
    rb"(?i)diffraction|nmr|microscopy|scattering|crystallography|neutron|epr|fluorescence"
)


def declares_prediction(header: bytes | gemmi.cif.Block) -> bool | None:
    """Whether a header says that this is a predicted model with pLDDT in the B-factors.

    An experimental method rules it out: crystal structures solved with an AlphaFold search model name
    AlphaFold too. None where the header says nothing.

    Examples
    --------
    >>> declares_prediction(b"TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR MYOGLOBIN")
    True
    >>> declares_prediction(b"EXPDTA    X-RAY DIFFRACTION\\nREMARK 200 STARTING MODEL: ALPHAFOLD")
    False
    """
    if isinstance(header, bytes):
        if not header:
            return None
        # Found by hand: a pattern over the long headers of deposited entries costs more than their parsing.
        at = header.find(b"EXPDTA")
        method = header[at + 6 : at + 80].split(b"\n")[0] if at >= 0 else b""
        text = header
    else:
        method = _joined(header, "_exptl.method")
        text = b" ".join(_joined(header, tag) for tag in _NAMING_TAGS)
    if names_experiment(method):
        return False
    return True if names_predictor(text) else None


def names_experiment(method: bytes | str) -> bool:
    """Whether a method (EXPDTA, ``_exptl.method``) is experimental."""
    raw = method if isinstance(method, bytes) else method.encode()
    return bool(raw) and _EXPERIMENT.search(raw) is not None


def names_predictor(text: bytes | str) -> bool:
    """Whether a header names a structure predictor that writes pLDDT."""
    lower = (text if isinstance(text, bytes) else text.encode()).lower()
    return any(name in lower for name in _PREDICTORS)


_NAMING_TAGS = (
    "_software.name",
    "_entry.id",
    "_struct.title",
    "_ma_software_group.name",
    "_ma_model_list.model_name",
)


def _joined(block: gemmi.cif.Block, tag: str) -> bytes:
    return " ".join(block.find_values(tag)).encode("utf-8", "replace")


def local_plddt(block: gemmi.cif.Block, structure: gemmi.Structure) -> NDArray[np.float32] | None:
    """PLDDT of every atom of the first model from ``_ma_qa_metric_local``; None if there is none.

    Residues without a value get NaN.
    """
    if len(structure) == 0:
        return None
    wanted = {
        row.str(0) for row in block.find("_ma_qa_metric.", ["id", "name"]) if "plddt" in row.str(1).lower()
    }
    columns = ["metric_id", "label_asym_id", "label_seq_id", "metric_value"]
    value: dict[tuple[str, str], float] = {}
    for row in block.find("_ma_qa_metric_local.", columns):
        if row.str(0) in wanted:
            value.setdefault((row.str(1), row.str(2)), gemmi.cif.as_number(row[3]))
    if not value:
        return None
    score: list[float] = []
    size: list[int] = []
    for chain in structure[0]:
        for residue in chain:
            score.append(value.get((residue.subchain, str(residue.label_seq)), np.nan))
            size.append(len(residue))
    return np.repeat(np.asarray(score, np.float32), size)


def table_confidence(
    block: Block, asym: NDArray[np.str_], number: NDArray[np.str_]
) -> tuple[NDArray[np.float32] | None, bool | None]:
    """PLDDT [n] of atoms from ``ma_qa_metric_local``, None if there is none; and whether this is predicted.

    Parameters
    ----------
    block : Block
    asym, number : str arrays [n]
        ``label_asym_id`` and ``label_seq_id`` of the atoms.
    """

    def column(category: str, name: str) -> list[str]:
        values = block.text(category, name)
        return [] if values is None else values.tolist()

    names = zip(column("ma_qa_metric", "id"), column("ma_qa_metric", "name"), strict=True)
    wanted = {i for i, name in names if "plddt" in name.lower()}
    columns = ("metric_id", "label_asym_id", "label_seq_id", "metric_value")
    value: dict[tuple[str, str], float] = {}
    for i, a, s, text in zip(*(column("ma_qa_metric_local", name) for name in columns), strict=True):
        if i in wanted:
            value.setdefault((a, s), gemmi.cif.as_number(text))
    if value:
        pairs = zip(asym.tolist(), number.tolist(), strict=True)
        return np.array([value.get(pair, np.nan) for pair in pairs], np.float32), True
    if names_experiment(" ".join(column("exptl", "method"))):
        return None, False
    tags = (tag[1:].split(".") for tag in _NAMING_TAGS)
    named = " ".join(text for category, name in tags for text in column(category, name))
    return None, True if names_predictor(named) else None


def looks_like_plddt(b_factor: NDArray[np.float32], residue_of_atom: NDArray[np.intp]) -> bool:
    """Whether undeclared B-factors can be pLDDT: within 0 to 100, one value per residue, not all equal.

    Refined B-factors differ from atom to atom.
    """
    if not np.isfinite(b_factor).all() or b_factor.min() < 0 or b_factor.max() > 100:
        return False
    same_residue = np.diff(residue_of_atom) == 0
    constant = bool((np.diff(b_factor)[same_residue] == 0).all()) and bool(same_residue.any())
    return constant and bool(b_factor.min() < b_factor.max())
