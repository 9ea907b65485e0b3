"""Read proteins from structure files, and from structures that other packages hold in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.protein import Protein
from protclip.structure.reading.atoms import AtomTable
from protclip.structure.reading.chains import ResidueTable, residue_table
from protclip.structure.reading.chopping import Segment, as_segments, segment_mask
from protclip.structure.reading.columns import plain_backbone
from protclip.structure.reading.confidence import looks_like_plddt
from protclip.structure.reading.formats import EXPECTED, atoms_from_bytes
from protclip.structure.reading.objects import OBJECTS, atoms_from_object, is_structure_object
from protclip.structure.reading.residues import key_name


class Content(NamedTuple):
    """What a structure file holds, with the name it goes by: a member of an archive, say."""

    name: str
    data: bytes


if TYPE_CHECKING:
    from Bio.PDB.Chain import Chain
    from Bio.PDB.Model import Model
    from Bio.PDB.Structure import Structure

    Source: TypeAlias = str | os.PathLike[str] | Content | Structure | Model | Chain


ChainIds = Literal["author", "label"]
Altloc = Literal["occupancy", "first"]

_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".bcif", ".pdbx")
_CA = 1


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
        PDB, mmCIF or BinaryCIF file, plain or gzip-compressed; the content decides, not the name. Or a
        Structure, Model or Chain of Bio.PDB or gemmi, or an AtomArray or AtomArrayStack of biotite.
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
        The first model. Its ``dropped`` counts what was left out: ``water``, ``ligand``, ``nucleic acid``,
        ``cap``, ``unknown residue``, ``no backbone``, ``microheterogeneity``, ``duplicate residue``, ``low
        pLDDT``, ``outside segments`` (residues); ``altloc``, ``hydrogen``, ``duplicate atom``, ``unplaced
        atom`` (atoms of the residues that stay); ``model``, ``other chain``; and what was changed: ``modified
        residue`` (carries its parent's letter), ``no C-alpha`` (kept, with NaN).

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
        if isinstance(source, Content):
            stem, where, data = _stem(source.name), source.name, source.data
        else:
            path = _path(source)
            stem, where = _stem(path.name), str(path)
            data = _content(path, where)
        if min_plddt is None and chain_ids == "author":
            plain = _plain_protein(data, stem or "structure" if id is None else id, where, chain, cut)
            if plain is not None:
                return [plain], [], where
        table = atoms_from_bytes(data, where, chain_ids)
    if len(table) == 0:
        raise StructureError("no atoms", where=where, got="0 atoms", expected="a protein structure")
    if cut is not None:
        chain = _chain_of(cut, chain, where)
    residues = residue_table(table, altloc, where)
    names, groups, rest = _protein_chains(residues, table, where)
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
            _protein(label, place, table, residues, groups[names.index(name)], extra, min_plddt, cut)
        )
    return proteins, wanted, where


def _plain_protein(
    data: bytes, id: str, where: str, chain: str | None, segments: tuple[Segment, ...] | None
) -> Protein | None:
    """The one chain of a plain domain file, None where the general reader has to look."""
    found = plain_backbone(data)
    if found is None:
        return None
    if segments is not None:
        chain = _chain_of(segments, chain, where)
    if chain is not None and chain.strip() != found.chain:
        return None
    _, sequence, coords, number, icode, hydrogens = found
    dropped = {"hydrogen": hydrogens} if hydrogens else {}
    if segments is not None:
        inside = segment_mask(number, icode, segments, f"{where} chain {found.chain or '(blank)'}")
        _count(dropped, "outside segments", int(np.count_nonzero(~inside)))
        coords, number, icode = coords[inside], number[inside], icode[inside]
        sequence = "".join(itertools.compress(sequence, inside))
    return Protein(id, sequence, coords.astype(np.float32), number, icode, None, dropped)


def _protein(
    id: str,
    where: str,
    table: AtomTable,
    residues: ResidueTable,
    index: NDArray[np.intp],
    extra: dict[str, int],
    min_plddt: float | None,
    segments: tuple[Segment, ...] | None,
) -> Protein:
    """One chain, cut and filtered."""
    dropped = residues.dropped(index) if not residues.plain else {}
    for kind, count in extra.items():
        dropped[kind] = dropped.get(kind, 0) + count
    if not residues.plain:
        index = index[residues.drop[index] == 0]
    icode = residues.icode[index].view("S1")
    if segments is not None:
        inside = segment_mask(residues.number[index], icode, segments, where)
        _count(dropped, "outside segments", int(np.count_nonzero(~inside)))
        index, icode = index[inside], icode[inside]
    plddt = _plddt(table, residues, index, min_plddt, where) if table.predicted is not False else None
    if min_plddt is not None:
        if plddt is None:
            raise _no_plddt(where)
        sure = plddt >= min_plddt
        if not sure.any():
            raise StructureError(
                "no residue is confident enough",
                where=where,
                got=f"highest pLDDT {np.nanmax(plddt, initial=0.0):.1f}",
                expected=f"at least {min_plddt:g}",
                hint="Lower the pLDDT limit or leave this model out",
            )
        _count(dropped, "low pLDDT", int(np.count_nonzero(~sure)))
        index, icode, plddt = index[sure], icode[sure], plddt[sure]
    whole = len(index) == len(residues.coords)
    coords = (residues.coords if whole else residues.coords[index]).astype(np.float32)
    if not residues.plain and np.isnan(coords[:, _CA, 0]).all():
        raise StructureError(
            "no residue has a C-alpha", where=where, got=f"{len(index)} residues without", expected="CA atoms"
        )
    return Protein(
        id,
        residues.letter[index].tobytes().decode("ascii"),
        coords,
        residues.number[index],
        icode,
        plddt,
        dropped,
    )


def _count(dropped: dict[str, int], kind: str, count: int) -> None:
    if count:
        dropped[kind] = count


def _plddt(
    table: AtomTable, residues: ResidueTable, index: NDArray[np.intp], min_plddt: float | None, where: str
) -> NDArray[np.float32] | None:
    """PLDDT of the residues ``index`` on the 0-100 scale, None for a structure that is not a prediction."""
    if table.predicted is None:
        # Nothing is declared, as in ColabFold's PDB files: only where the caller asks for pLDDT,
        # and only where the B-factors can be that.
        if min_plddt is None:
            return None
        if not looks_like_plddt(table.b_factor, residues.groups.residue_of_atom):
            raise _no_plddt(where)
    value = table.b_factor[residues.ca_row[index]].astype(np.float32)
    if not np.isfinite(value).any() or np.nanmin(value) < 0 or np.nanmax(value) > 100:
        return None
    # ESMFold writes fractions.
    return value * np.float32(100) if np.nanmax(value) <= 1 else value


def _no_plddt(where: str) -> StructureError:
    return StructureError(
        "no pLDDT here",
        where=where,
        got="a structure that is not declared as predicted, with B-factors unlike pLDDT",
        expected="a predicted model",
        hint="Leave the pLDDT limit out for experimental structures",
    )


def _protein_chains(
    residues: ResidueTable, table: AtomTable, where: str
) -> tuple[list[str], list[NDArray[np.intp]], NDArray[np.intp]]:
    """Names and residues of the protein chains, and the residues that belong to none of them."""
    chain = residues.chain
    if table.one_chain or (chain == chain[0]).all():
        groups = {int(chain[0]): np.arange(len(chain))}
    else:
        groups = _by_chain(chain)
    names, found = [], []
    rest = [np.zeros(0, np.intp)]
    for key, index in groups.items():
        reasons = residues.drop[index]
        amino = len(reasons) - np.count_nonzero(reasons)
        if amino and amino > np.count_nonzero(reasons == residues.NUCLEIC):
            names.append(table.long_names.get(key, key_name(key)))
            found.append(index)
        else:
            residues.drop[index[reasons == 0]] = residues.NUCLEIC  # an amino acid on an RNA chain
            residues.plain = False
            rest.append(index)
    if not found:
        seen = residues.dropped(np.arange(len(chain)))
        raise StructureError(
            "no protein chain",
            where=where,
            got=", ".join(f"{count} {kind}" for kind, count in seen.items()) or "nothing",
            expected="amino-acid residues",
        )
    return names, found, np.concatenate(rest)


def _by_chain(chain: NDArray[np.uint64]) -> dict[int, NDArray[np.intp]]:
    """Residues of each chain, in the order of the file."""
    ends = [*(np.flatnonzero(chain[1:] != chain[:-1]) + 1).tolist(), len(chain)]
    groups: dict[int, NDArray[np.intp]] = {}
    for start, end in zip([0, *ends], ends, strict=False):
        key, index = int(chain[start]), np.arange(start, end)
        # Waters and ligands can come back to a chain at the end of the file.
        groups[key] = np.concatenate([groups[key], index]) if key in groups else index
    return groups


def _chain_of(segments: tuple[Segment, ...], chain: str | None, where: str) -> str | None:
    named = {s.chain for s in segments if s.chain is not None}
    if chain is not None:
        named.add(chain.strip())
    if len(named) > 1:
        raise StructureError(
            "segments of several chains", where=where, got=", ".join(sorted(named)), expected="one chain"
        )
    return named.pop() if named else chain


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise StructureError(
            "unknown choice", where=name, got=repr(value), expected=" or ".join(repr(c) for c in choices)
        )


def _path(source: object) -> Path:
    if not isinstance(source, str | os.PathLike):
        raise StructureError(
            "cannot read a structure from this object",
            got=type(source).__name__,
            expected=f"a path, or {OBJECTS}",
        )
    return Path(source)


def _content(path: Path, where: str) -> bytes:
    try:
        # In one piece, without the objects that a stream takes.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            return _whole(handle)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        got, hint = str(error), None
        if isinstance(error, FileNotFoundError):
            got = "no such file"
        elif isinstance(error, IsADirectoryError):
            got, hint = "a folder", "Give one of the files in it"
        elif isinstance(error, PermissionError):
            got, hint = "no permission to read it", "Check the owner and mode of the file"
        raise StructureError(
            "cannot open", where=where, got=got, expected=f"a file: {EXPECTED}", hint=hint
        ) from None


def _whole(handle: int) -> bytes:
    parts = [os.read(handle, os.fstat(handle).st_size + 1)]
    while more := os.read(handle, 1 << 20):  # a growing file, or a pipe
        parts.append(more)
    return b"".join(parts)


def _stem(name: str) -> str:
    lower = name.lower()
    if lower.endswith(".gz"):
        name, lower = name[:-3], lower[:-3]
    for suffix in _SUFFIXES:
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return name[: -len(suffix)]
    return name
