"""Read proteins from structure files, and from structures that other packages hold in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from protclip.errors import StructureError
from protclip.structure.protein import Protein
from protclip.structure.reading.chains import residue_table
from protclip.structure.reading.chopping import Segment, as_segments
from protclip.structure.reading.formats import atoms_from_bytes
from protclip.structure.reading.objects import atoms_from_object, is_structure_object
from protclip.structure.reading.protein_chains import chain_of, protein, protein_chains, simple_protein
from protclip.structure.reading.source import content_of, stem_of

if TYPE_CHECKING:
    from protclip.structure.reading.source import Source

ChainIds = Literal["author", "label"]
Altloc = Literal["occupancy", "first"]


def read_structure(
    source: Source,
    *,
    chain: str | None = None,
    chain_ids: ChainIds = "author",
    altloc: Altloc = "occupancy",
    min_plddt: float | None = None,
    segments: str | Iterable[Segment] | None = None,
    id: str | None = None,
) -> Protein:
    """Read one protein chain or domain.

    Parameters
    ----------
    source : path, Content, or structure of another package
        PDB, mmCIF or BinaryCIF file, plain or compressed (gzip, bzip2, xz, zstd); the content decides, not
        the name. Or a Structure, Model or Chain of Bio.PDB or gemmi, or an AtomArray or AtomArrayStack of
        biotite.
    chain : str, optional
        Chain to read. May be left out where there is one protein chain.
    chain_ids : {"author", "label"}
        Whether chains are named by the authors (as in PDB files) or by ``label_asym_id``.
    altloc : {"occupancy", "first"}
        Conformer of residues with alternate locations: the label of largest summed occupancy in the residue
        (ties to the first), or the first label.
    min_plddt : float, optional
        Leave out residues of a predicted model whose pLDDT (0-100) is lower.
    segments : str or iterable of Segment, optional
        Cut a domain out of the chain, e.g. ``"1-86,147-242"``, by author numbers; see
        :func:`protclip.structure.parse_chopping`.
    id : str, optional
        Id of the protein; the file stem where it is left out.

    Returns
    -------
    Protein
        The first model that has atoms. Its ``dropped`` counts what was left out: ``water``, ``ligand``,
        ``nucleic acid``,
        ``cap``, ``unknown residue``, ``no backbone``, ``microheterogeneity``, ``duplicate residue``, ``low
        pLDDT``, ``outside segments`` (residues); ``altloc``, ``hydrogen``, ``duplicate atom``, ``unplaced
        atom`` (atoms of the residues that stay); ``behind END`` (atoms); ``model``, ``other chain``; and
        what was changed: ``modified residue`` (carries its parent's letter), ``no C-alpha`` (kept, with NaN).

    Raises
    ------
    StructureError
        If the source is missing, unreadable or damaged, holds no protein or several protein chains,
        or lacks what was asked for.

    Examples
    --------
    >>> from protclip.structure import read_structure
    >>> protein = read_structure("data/cath/dompdb/1ubiA00")
    >>> protein.id, len(protein), protein.sequence[:10], protein.coords.shape
    ('1ubiA00', 76, 'MQIFVKTLTG', (76, 4, 3))
    >>> len(read_structure("data/cath/dompdb/1ubiA00", segments="1-10,20-29"))
    20
    """
    proteins, others, where = _read(source, chain, chain_ids, altloc, min_plddt, segments, id)
    if len(proteins) != 1:
        raise StructureError(
            "several protein chains",
            where=where,
            got=", ".join(
                f"{name or '(blank)'} ({len(p)} residues)" for name, p in zip(others, proteins, strict=True)
            ),
            expected="one chain",
            hint="Name one with chain=, or read them all with read_chains",
        )
    return proteins[0]


def read_chains(
    source: Source,
    *,
    chain: str | None = None,
    chain_ids: ChainIds = "author",
    altloc: Altloc = "occupancy",
    min_plddt: float | None = None,
    segments: str | Iterable[Segment] | None = None,
    id: str | None = None,
) -> list[Protein]:
    """Read every protein chain of a file; parameters as in :func:`read_structure`.

    Ids are ``<stem>`` where there is one protein chain, else ``<stem>_<chain>``. What belongs to no protein
    chain (nucleic acids, waters with a chain id of their own, further models) is counted in the first.

    Raises
    ------
    StructureError
        As :func:`read_structure`, but several chains are no error.

    Examples
    --------
    >>> [p.id for p in read_chains("data/cath/dompdb/1ubiA00")]
    ['1ubiA00']
    """
    proteins, _, _ = _read(source, chain, chain_ids, altloc, min_plddt, segments, id)
    return proteins


def _read(
    source: Source,
    chain: str | None,
    chain_ids: str,
    altloc: str,
    min_plddt: float | None,
    segments: str | Iterable[Segment] | None,
    id: str | None,
) -> tuple[list[Protein], list[str], str]:
    """Proteins, their chain names, and how to call the source in messages."""
    _check_choice("chain_ids", chain_ids, ("author", "label"))
    _check_choice("altloc", altloc, ("occupancy", "first"))
    cut = as_segments(segments)
    if is_structure_object(source):
        table, stem, where = atoms_from_object(source, chain_ids)
    else:
        where, data = content_of(source)
        stem = stem_of(os.path.basename(where))  # noqa: PTH119  (a path object costs more)
        if min_plddt is None and chain_ids == "author":
            simple = simple_protein(data, stem or "structure" if id is None else id, where, chain, cut)
            if simple is not None:
                return [simple], [], where
        table = atoms_from_bytes(data, where, chain_ids)
    if len(table) == 0:
        raise StructureError("no atoms", where=where, got="0 atoms", expected="a protein structure")
    if cut is not None:
        chain = chain_of(cut, chain, where)
    residues = residue_table(table, altloc, where)
    names, groups, rest = protein_chains(residues, table, where)
    wanted = names if chain is None else [chain.strip()]
    if chain is not None and wanted[0] not in names:
        raise StructureError(
            "no such protein chain",
            where=where,
            got=repr(chain),
            expected=f"one of {', '.join(map(repr, names))}",
            hint=None if chain_ids == "label" else "chain_ids='label' reads label_asym_id names",
        )
    elsewhere = residues.dropped(rest) if len(rest) else {}
    if table.behind_end:
        elsewhere["behind END"] = table.behind_end
    if table.models > 1:
        elsewhere["model"] = table.models - 1
    if chain is not None and len(names) > 1:
        elsewhere["other chain"] = len(names) - 1
    base = stem or "structure" if id is None else id
    several = len(names) > 1 if id is None else len(wanted) > 1
    proteins: list[Protein] = []
    for name in wanted:
        label = f"{base}_{name}" if several and name else base
        place = f"{where} chain {name or '(blank)'}"
        extra = elsewhere if not proteins else {}
        proteins.append(
            protein(label, place, table, residues, groups[names.index(name)], extra, min_plddt, cut)
        )
    return proteins, wanted, where


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise StructureError(
            "unknown choice", where=name, got=repr(value), expected=" or ".join(repr(c) for c in choices)
        )
