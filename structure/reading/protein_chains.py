"""From the residues of a file to one Protein for each chain."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.protein import BACKBONE, Protein
from protclip.structure.reading.atoms import AtomTable
from protclip.structure.reading.chains import ResidueTable
from protclip.structure.reading.chopping import Segment, segment_mask
from protclip.structure.reading.columns import plain_backbone
from protclip.structure.reading.confidence import looks_like_plddt
from protclip.structure.reading.residues import key_name

_CA = BACKBONE.index("CA")


def simple_protein(
    data: bytes, id: str, where: str, chain: str | None, segments: tuple[Segment, ...] | None
) -> Protein | None:
    """The one chain of a plain domain file, None where the general reader has to look."""
    found = plain_backbone(data)
    if found is None:
        return None
    if segments is not None:
        chain = chain_of(segments, chain, where)
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


def protein(
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


def protein_chains(
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


def chain_of(segments: tuple[Segment, ...], chain: str | None, where: str) -> str | None:
    """The chain that segments and ``chain`` name together."""
    named = {s.chain for s in segments if s.chain is not None}
    if chain is not None:
        named.add(chain.strip())
    if len(named) > 1:
        raise StructureError(
            "segments of several chains", where=where, got=", ".join(sorted(named)), expected="one chain"
        )
    return named.pop() if named else chain
