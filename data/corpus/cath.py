"""CATH as it is distributed: folders of domain files, the domain list, domain ids."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from protclip.data.corpus.boundaries import Boundary, read_boundaries
from protclip.data.files.lines import numbered_lines
from protclip.errors import DataError
from protclip.structure.reading.source import stem_of, suffix_of

LAYOUT = "DIR/dompdb/<domain id> or DIR/<domain id>[.pdb|.ent|.cif|.bcif][.gz], and cath-domain-list*.txt"

_DOMAIN_ID = re.compile(r"([0-9][A-Za-z0-9]{3})([A-Za-z0-9])([0-9]{2})")
_DIGIT = re.compile(r"[0-9]")
_CHAIN_ID = re.compile(r"[0-9][A-Za-z0-9]{3}[A-Za-z0-9]?")


class DomainId(NamedTuple):
    """Parts of a CATH domain id: PDB code, chain (None where CATH writes ``0``), domain number."""

    pdb: str
    chain: str | None
    number: int


def parse_domain_id(text: str) -> DomainId:
    """Take a seven-character CATH domain id apart; number 0 means the whole chain.

    Raises
    ------
    DataError
        If `text` is not a PDB code, a chain letter and two digits.

    Examples
    --------
    >>> parse_domain_id("1oaiA00")
    DomainId(pdb='1oai', chain='A', number=0)
    """
    match = _DOMAIN_ID.fullmatch(text)
    if match is None:
        raise DataError("not a CATH domain id", got=repr(text), expected="seven characters such as 1oaiA00")
    pdb, chain, number = match.groups()
    return DomainId(pdb.lower(), None if chain == "0" else chain, int(number))


@dataclass(frozen=True)
class CathLabel:
    """One line of the CATH domain list.

    Attributes
    ----------
    code : str
        Homologous superfamily ``C.A.T.H``, e.g. ``1.10.8.10``.
    s35, s60, s95, s100 : int
        Sequence clusters, each counted within the one before; 0 where unknown.
    length : int
        Residues.
    resolution : float
        Angstrom; 999 for NMR, 1000 for an obsolete PDB entry.

    Examples
    --------
    >>> CathLabel("1.10.8.10", s35=2).cluster
    '1.10.8.10.2'
    """

    code: str
    s35: int = 0
    s60: int = 0
    s95: int = 0
    s100: int = 0
    length: int = 0
    resolution: float = 999.0

    @property
    def cluster(self) -> str:
        """S35 cluster ``C.A.T.H.S``, empty where unknown."""
        return f"{self.code}.{self.s35}" if self.s35 else ""


def read_domain_list(path: str | Path) -> dict[str, CathLabel]:
    """Read a CATH domain list (CLF 2.0, twelve columns, ``#`` comments; may be compressed).

    Raises
    ------
    DataError
        On a missing or unreadable file, a malformed line (with its number), a domain listed twice,
        or a list without any domain.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "cath-domain-list.txt"
    >>> _ = file.write_text("# CLF\\n1oaiA00  1  10  8  10  1  1  1  1  1  59 1.000\\n")
    >>> read_domain_list(file)["1oaiA00"].code
    '1.10.8.10'
    """
    labels: dict[str, CathLabel] = {}
    for number, line in numbered_lines(path):
        fields = line.split("#", 1)[0].split()
        if not fields:
            continue
        where = f"{path}:{number}"
        if len(fields) != 12:
            raise DataError(
                "malformed line", where=where, got=f"{len(fields)} columns", expected="12 (CLF 2.0)"
            )
        try:
            counts = [int(field) for field in fields[1:11]]
            resolution = float(fields[11])
        except ValueError:
            raise DataError(
                "malformed line",
                where=where,
                got=repr(" ".join(fields[1:])[:80]),
                expected="numbers after the id",
            ) from None
        if min(counts) < 0 or max(counts) >= 2**31 or min(counts[:4]) < 1 or not math.isfinite(resolution):
            raise DataError(
                "number out of range",
                where=where,
                got=" ".join(fields[1:])[:80],
                expected="positive integers",
            )
        if fields[0] in labels:
            raise DataError("domain listed twice", where=where, got=fields[0], expected="one line per domain")
        code = ".".join(map(str, counts[:4]))
        s35, s60, s95, s100, _, length = counts[4:]
        labels[fields[0]] = CathLabel(code, s35, s60, s95, s100, length, resolution)
    if not labels:
        raise DataError("the domain list is empty", where=str(path), expected="CLF 2.0 lines of 12 columns")
    return labels


@dataclass(frozen=True)
class CathFolder:
    """What :func:`find_cath` found.

    Attributes
    ----------
    root : Path
        The folder asked for.
    files : dict of str to Path
        Structure file of every domain, sorted by domain id.
    cuts : dict of str to Boundary
        The domains that are to be cut out of a whole-chain or whole-entry file.
    list_path : Path or None
        CATH domain list, if any.
    notices : tuple of str
        What a user should know: files left out, no labels, several lists.
    """

    root: Path
    files: Mapping[str, Path]
    cuts: Mapping[str, Boundary]
    list_path: Path | None
    notices: tuple[str, ...] = ()


def find_cath(
    directory: str | Path, *, boundaries: str | Path | None = None, domain_list: str | Path | None = None
) -> CathFolder:
    """Find structure files and lists in a CATH folder; nothing is parsed but the boundary list.

    Parameters
    ----------
    directory
        A folder laid out as CATH's archives unpack, or a flat folder of structure files.
    boundaries
        Boundary list for whole-chain files named ``1oaiA`` or ``1oai``. Without it a
        ``cath-domain-boundaries*.txt`` in the folder is used if no file is named like a domain.
    domain_list
        Domain list to use instead of the one found in, beside or above the folder.

    Raises
    ------
    DataError
        If the folder does not exist, holds no structure file, or has two files for one id.

    Examples
    --------
    >>> from protclip.data.corpus.build import sample_corpus_dir
    >>> folder = find_cath(sample_corpus_dir())
    >>> len(folder.files), folder.list_path.name
    (168, 'cath-domain-list.txt')
    """
    root = Path(directory)
    if not root.is_dir():
        raise DataError(
            "no such folder" if not root.exists() else "this is a file, not a folder",
            where=str(root),
            expected=LAYOUT,
            hint="`protclip data download cath` fetches one",
        )
    folder = root / "dompdb" if (root / "dompdb").is_dir() else root
    files, ignored = _structure_files(folder)
    if not files:
        raise DataError(
            "no structure files", where=str(folder), got=f"{ignored.total()} other files", expected=LAYOUT
        )
    notices = []
    if ignored:
        kinds = ", ".join(f"{count} {reason}" for reason, count in ignored.items())
        notices.append(f"{ignored.total()} files in {folder} were left out: {kinds}")
    places = list(dict.fromkeys([folder, root, root.resolve().parent]))
    list_path = Path(domain_list) if domain_list else _pick(places, "cath-domain-list", notices)
    if list_path is None:
        notices.append(f"no cath-domain-list*.txt in or above {root}: domains have no CATH labels")
    elif not list_path.is_file():
        raise DataError("no such domain list", where=str(list_path))
    cuts: dict[str, Boundary] = {}
    if boundaries is None and not any(_DOMAIN_ID.fullmatch(name) for name in files):
        boundaries = _pick(places, "cath-domain-boundaries", notices)
    if boundaries is not None:
        files, cuts = _cut_chains(files, Path(boundaries), notices)
    return CathFolder(root, dict(sorted(files.items())), cuts, list_path, tuple(notices))


def _structure_files(folder: Path) -> tuple[dict[str, Path], Counter[str]]:
    """Structure files of a folder by id, and how many other entries there are, by the reason."""
    files: dict[str, Path] = {}
    ignored: Counter[str] = Counter()
    names: list[str] = []
    # The folder's own entries, and names as text: a path object for each file costs more than all the rest.
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                ignored["hidden"] += 1
            elif _is_file(entry):
                names.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110  (as above)
                ignored["broken links"] += 1
    for name in sorted(names):
        stem = stem_of(name)
        domain = _DOMAIN_ID.fullmatch(stem) or _CHAIN_ID.fullmatch(stem)
        # Ids of other collections hold a number; LICENSE and README do not.
        ours = folder.name == "dompdb" and "." not in stem and _DIGIT.search(stem)
        if not (suffix_of(name) or domain or ours):
            ignored["not named like structures"] += not name.startswith("cath-")
            continue
        if stem in files:
            raise DataError(
                "two files for one id", where=stem, got=f"{files[stem].name} and {name} in {folder}"
            )
        files[stem] = folder / name
    return files, +ignored


def _is_file(entry: os.DirEntry[str]) -> bool:
    # The first says no of links and asks the system nothing; the second follows them, in circles too.
    return entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)  # noqa: PTH113


def _pick(places: list[Path], stem: str, notices: list[str]) -> Path | None:
    """The plain ``<stem>.txt``, else the complete list of the newest release; never an S-subset first."""
    for place in places:
        found = [
            path
            for pattern in (f"{stem}*.txt", f"{stem}*.txt.gz")
            for path in place.glob(pattern)
            if "seqres" not in path.name
        ]
        if not found:
            continue
        plain = [path for path in found if path.name in (f"{stem}.txt", f"{stem}.txt.gz")]
        whole = [path for path in found if not re.search(r"-S\d+", path.name)]
        best = max(plain or whole or found, key=lambda path: path.name)
        if len(found) > 1:
            notices.append(f"several {stem} files in {place}; taken: {best.name}")
        return best
    return None


def _cut_chains(
    files: dict[str, Path], path: Path, notices: list[str]
) -> tuple[dict[str, Path], dict[str, Boundary]]:
    """Replace whole-chain and whole-entry files by the domains that the boundary list cuts from them."""
    by_name = {
        (name[3:] if name.lower().startswith("pdb") and len(name) == 7 else name): file
        for name, file in files.items()
    }
    lower = {name.lower(): name for name in by_name if len(name) == 4}
    domains: dict[str, Path] = {}
    cuts: dict[str, Boundary] = {}
    used: set[Path] = set()
    for name, cut in read_boundaries(path).items():
        entry = lower.get(cut.pdb.lower(), "")
        file = (
            by_name.get(f"{cut.pdb}{cut.chain or '0'}")
            or by_name.get(cut.pdb + (cut.chain or ""))
            or by_name.get(entry)
        )
        if file is not None:
            domains[name], cuts[name] = file, cut
            used.add(file)
    left = {name: file for name, file in files.items() if file not in used}
    ready = {name: file for name, file in left.items() if _DOMAIN_ID.fullmatch(name) and name not in domains}
    if not domains and not ready:
        raise DataError(
            "no file belongs to any chain of the boundary list",
            where=str(path),
            got=", ".join(list(files)[:3]),
            expected="file names such as 1oaiA or 1oai",
        )
    if len(left) > len(ready):
        notices.append(
            f"{len(left) - len(ready)} chain files have no domain in {path.name} and were left out"
        )
    return {**domains, **ready}, cuts
