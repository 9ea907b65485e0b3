"""Domain boundary lists: which residues of a chain make up a domain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from protclip.data.files.lines import numbered_lines
from protclip.errors import DataError

_ID = re.compile(r"([0-9][A-Za-z0-9]{3})([A-Za-z0-9])([0-9]{2})")
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_END = r"-?[0-9]{1,9}(?:[A-Za-z]|\([A-Za-z0-9]\))?"
_CHOPPING = re.compile(rf"{_END}(?:-{_END})?(?:,{_END}(?:-{_END})?)*")


@dataclass(frozen=True)
class Boundary:
    """One domain as a part of a chain.

    Attributes
    ----------
    pdb : str
        PDB code.
    chain : str or None
        Author chain id; None where CATH writes ``0`` (no chain id).
    chopping : str
        Segments by author residue numbers with insertion codes, e.g. ``1-86,147-242A``.
    """

    pdb: str
    chain: str | None
    chopping: str


def read_boundaries(path: str | Path) -> dict[str, Boundary]:
    """Read domain boundaries in author numbering, by domain id.

    Three layouts are told apart line by line: CATH's ``cath-domain-boundaries`` (CDF 2.0, one chain a
    line), ``<domain id> <chopping>``, and the daily ``cath-b`` list (id, version, code, chopping). In a
    CDF line a chain with one domain and no fragment is domain ``00``, otherwise domains count from 01.

    Raises
    ------
    DataError
        On a malformed line (with its number), a domain listed twice, an empty list, or a
        ``seqreschopping`` list, whose numbers count SEQRES positions.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "cath-domain-boundaries.txt"
    >>> _ = file.write_text("1chmA  D02 F00  1  A    2 - A  156 -  1  A  157 - A  402 -\\n")
    >>> {name: cut.chopping for name, cut in read_boundaries(file).items()}
    {'1chmA01': '2-156', '1chmA02': '157-402'}
    """
    if "seqres" in Path(path).name:
        raise DataError(
            "this list counts SEQRES positions, structure files carry author residue numbers",
            where=str(path),
            hint="Use cath-domain-boundaries.txt of the same release",
        )
    found: dict[str, Boundary] = {}
    for number, line in numbered_lines(path):
        fields = line.split("#", 1)[0].split()
        if not fields:
            continue
        where = f"{path}:{number}"
        is_cdf = len(fields) > 2 and re.fullmatch(r"D\d\d", fields[1]) and re.fullmatch(r"F\d\d", fields[2])
        try:
            domains = _cdf(fields) if is_cdf else [_chopping(fields)]
            for name, cut in domains:
                if name in found:
                    raise ValueError(f"domain {name} for the second time")
                # Form only: some published segments run backwards, as the numbering of their entries does.
                # Whether a segment is there is for the reader to say, domain by domain.
                if not _CHOPPING.fullmatch(cut.chopping):
                    raise ValueError(f"chopping {cut.chopping[:40]!r}")
                found[name] = cut
        except (ValueError, IndexError) as error:
            raise DataError(
                "malformed boundary line",
                where=where,
                got=str(error) if isinstance(error, ValueError) else "too few columns",
                expected="CDF 2.0, or a domain id and a chopping such as 1-86,147-242",
            ) from None
    if not found:
        raise DataError("the boundary list is empty", where=str(path))
    return found


def _chopping(fields: list[str]) -> tuple[str, Boundary]:
    match = _ID.fullmatch(fields[0])
    if match is None or len(fields) not in (2, 4):
        raise ValueError(" ".join(fields)[:80])
    parts = re.split(r"[,_]", fields[-1])
    chains = {part.rpartition(":")[2] for part in parts if ":" in part}
    if len(chains) > 1:
        raise ValueError(f"segments in chains {', '.join(sorted(chains))}")
    chain = chains.pop() if chains else match[2]
    chopping = ",".join(part.partition(":")[0] for part in parts)
    return fields[0], Boundary(match[1].lower(), None if chain == "0" else chain, chopping)


def _cdf(fields: list[str]) -> list[tuple[str, Boundary]]:
    """Domains of one CDF line; the fragments at its end belong to no domain and are checked only."""
    name, n_domains, n_fragments = fields[0], int(fields[1][1:]), int(fields[2][1:])
    if not re.fullmatch(r"[0-9][A-Za-z0-9]{4}", name) or n_domains < 1:
        raise ValueError(" ".join(fields[:3]))
    at = 3
    domains = []
    for domain in range(1, n_domains + 1):
        n_segments = int(fields[at])
        at += 1
        segments = []
        if n_segments < 1:
            raise ValueError(f"{n_segments} segments")
        for _ in range(n_segments):
            segment = fields[at : at + 6]
            at += 6
            if len(segment) < 6 or not _NUMBER.fullmatch(segment[1]) or not _NUMBER.fullmatch(segment[4]):
                raise ValueError(f"segment {' '.join(segment)!r}")
            if segment[0] != segment[3] or segment[0] != name[4]:
                raise ValueError(f"segment in chains {segment[0]} and {segment[3]} of {name}")
            ends = [segment[i] + (segment[i + 1] if segment[i + 1] != "-" else "") for i in (1, 4)]
            segments.append("-".join(ends))
        suffix = "00" if n_domains == 1 and n_fragments == 0 else f"{domain:02d}"
        chain = None if name[4] == "0" else name[4]
        domains.append((name + suffix, Boundary(name[:4].lower(), chain, ",".join(segments))))
    if len(fields) - at != 7 * n_fragments:
        raise ValueError(f"{len(fields) - at} columns after the domains for {n_fragments} fragments")
    return domains
