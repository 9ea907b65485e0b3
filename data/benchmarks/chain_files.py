"""Finding the file of a PDB chain in a folder of structures, however the files are named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from protclip.data.corpus.parse import Item
from protclip.errors import DataError
from protclip.structure.reading.source import stem_of, suffix_of

_CHAIN_FILE = re.compile(r"([0-9][a-z0-9]{3})(?:[-_.:]([a-z0-9]{1,4})(?:_.*)?|([a-z0-9]))", re.IGNORECASE)
_ENTRY_FILE = re.compile(r"(?:pdb|pdb_0000)?([0-9][a-z0-9]{3})", re.IGNORECASE)
_CHAIN_ID = re.compile(r"([0-9][A-Za-z0-9]{3})[-._:]([A-Za-z0-9]{1,4})")


def split_chain_id(id: str) -> tuple[str, str]:
    """PDB code, in lower case, and author chain of ``1ABC-A``, ``1abc.A`` or ``1abc_A``.

    Raises
    ------
    DataError
        If `id` is none of these.

    Examples
    --------
    >>> split_chain_id("6KMX-aA"), split_chain_id("2pmo.X")
    (('6kmx', 'aA'), ('2pmo', 'X'))
    """
    match = _CHAIN_ID.fullmatch(id)
    if match is None:
        raise DataError("not a PDB chain", got=repr(id), expected="1ABC-A, 1abc.A or 1abc_A")
    return match[1].lower(), match[2]


class ChainFiles:
    """The structure files of a folder and of those below it, by PDB chain and by entry.

    Files of single chains are called ``1ABC-A``, ``1abc_A``, ``1abc.A``, ``1abcA`` or
    ``1ABC-A_<anything>``, files of whole entries ``1abc`` or ``pdb1abc``; with ``.pdb``, ``.ent``, ``.cif``,
    ``.mmcif`` or ``.bcif``, plain or compressed.  PDB codes may be in either case; chains are told apart by
    case, and only where no file fits is case overlooked.

    Raises
    ------
    DataError
        If the folder is missing or holds no structure file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("1ABC-A.pdb", "2abc.cif.gz"):
    ...     _ = (folder / name).write_text("")
    >>> files = ChainFiles(folder)
    >>> item, _ = files.item("1abc.A"), files.item("2ABC-B")
    >>> Path(item.path).name, item.chain
    ('1ABC-A.pdb', 'A')
    """

    def __init__(self, folder: str | Path) -> None:
        self.root = Path(folder)
        if not self.root.is_dir():
            raise DataError(
                "no such folder",
                where=str(self.root),
                expected="structure files such as 1abc.cif or 1ABC-A.pdb",
            )
        self.chains: dict[tuple[str, str], Path] = {}
        self.any_case: dict[tuple[str, str], list[Path]] = {}
        self.entries: dict[str, Path] = {}
        for path in sorted(self.root.rglob("*")):
            stem = structure_stem(path)
            if stem is None or not path.is_file():
                continue
            if (entry := _ENTRY_FILE.fullmatch(stem)) is not None:
                self.entries.setdefault(entry[1].lower(), path)
            elif (match := _CHAIN_FILE.fullmatch(stem)) is not None:
                key = (match[1].lower(), match[2] or match[3])
                if key not in self.chains:
                    self.chains[key] = path
                    self.any_case.setdefault((key[0], key[1].lower()), []).append(path)
        if not self.chains and not self.entries:
            raise DataError(
                "no structure file",
                where=str(self.root),
                expected="files such as 1abc.cif, 1abc.bcif.gz or 1ABC-A.pdb",
                hint="Fetch the structures of the listed chains from the PDB archive",
            )

    def item(self, id: str) -> Item | None:
        """What to read for a listed chain; None if there is no file.

        A file of the chain alone goes before a file of its entry.
        """
        pdb, chain = split_chain_id(id)
        path = self.chains.get((pdb, chain))
        if path is None:
            others = self.any_case.get((pdb, chain.lower()), [])
            path = others[0] if len(others) == 1 and pdb not in self.entries else self.entries.get(pdb)
        return None if path is None else Item(id, str(path), chain, "")


def names_chain(path: str | Path) -> bool:
    """Whether a file's own name says that it holds one chain.

    Examples
    --------
    >>> names_chain("1ABC-A_x.pdb"), names_chain("1abc.cif")
    (True, False)
    """
    stem = structure_stem(Path(path)) or ""
    return _ENTRY_FILE.fullmatch(stem) is None and _CHAIN_FILE.fullmatch(stem) is not None


def structure_stem(path: Path) -> str | None:
    """Name of a structure file without its suffixes; None for any other file."""
    return stem_of(path.name) if suffix_of(path.name) and not path.name.startswith(".") else None


def find_chains(folder: str | Path, ids: Iterable[str]) -> tuple[list[Item], list[tuple[str, str]]]:
    """Structure files of listed chains.

    Returns
    -------
    items : list of Item
        What to read, in the order of `ids`.
    missing : list of (id, reason)

    Raises
    ------
    DataError
        If the folder is missing or empty, or an id is no PDB chain.
    """
    files = ChainFiles(folder)
    items, missing = [], []
    for id in ids:
        item = files.item(id)
        if item is None:
            missing.append((id, f"no structure file of the chain or its entry in {files.root}"))
        else:
            items.append(item)
    return items, missing
