"""Where the benchmarks of the downstream tasks are published."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from protclip.errors import ConfigError

SourceName = Literal["fold", "reaction", "ec", "go"]
NAMES: tuple[str, ...] = get_args(SourceName)
TASK_OF = {"fold": "fold", "reaction": "reaction", "ec": "ec", "go": "go-mf"}
"""A task whose lists each source holds."""


def source_name(task: str) -> str:
    """The source that holds a task: the three namespaces of GO come from one.

    Examples
    --------
    >>> source_name("go-bp")
    'go'
    """
    return task.split("-")[0]


IECONV = (
    "https://raw.githubusercontent.com/phermosilla/IEConv_proteins/master/Datasets/data",
    "https://cdn.jsdelivr.net/gh/phermosilla/IEConv_proteins@master/Datasets/data",
)
DEEPFRI = (
    "https://raw.githubusercontent.com/flatironinstitute/DeepFRI/master/preprocessing/data",
    "https://cdn.jsdelivr.net/gh/flatironinstitute/DeepFRI@master/preprocessing/data",
)
ZENODO = ("https://zenodo.org/record/6622158/files", "https://zenodo.org/records/6622158/files")
SCOP = ("https://scop.berkeley.edu/downloads/pdbstyle",)


@dataclass(frozen=True)
class Source:
    """What a benchmark is fetched from.

    Attributes
    ----------
    lists : tuple of str
        Names of the lists.
    list_bases : tuple of str
        Folders that hold them, in the order in which they are tried.
    archive : str
        Name of the archive of structures; empty where structures are single PDB entries.
    archive_bases : tuple of str
    md5 : str
        Published checksum of the archive, empty where there is none.
    size : int or None
        Bytes of all that is fetched; None where that is published nowhere and was not measured.
    licence : str
    """

    lists: tuple[str, ...] = ()
    list_bases: tuple[str, ...] = ()
    archive: str = ""
    archive_bases: tuple[str, ...] = ()
    md5: str = ""
    size: int | None = None
    licence: str = ""

    def first_files(self) -> list[str]:
        """Addresses of the file that is fetched first, in the order in which they are tried."""
        if self.lists:
            return addresses_of(self.list_bases, self.lists[0], None)
        return addresses_of(self.archive_bases, self.archive, None)

    def announce(self, size: int | None = None) -> str:
        """What is fetched, from where, how much it is, and under which licence.

        Parameters
        ----------
        size : int, optional
            Bytes of the first file as its server says; counts where the archive is all that is fetched.

        Examples
        --------
        >>> SOURCES["ec", "torchdrug"].announce(3 * 10**6).split("; ")[:2]
        ['EnzymeCommission.zip from https://zenodo.org/record/6622158/files', 'size: 3.0 MB']
        """
        parts = []
        if self.lists:
            parts.append(f"{len(self.lists)} lists from {self.list_bases[0]}")
        if self.archive:
            parts.append(f"{self.archive} from {self.archive_bases[0]}")
        else:
            parts.append("one file from the PDB archive for every entry in the lists")
        known = self.size if self.size is not None else None if self.lists else size
        told = f"{known / 1e6:.1f} MB" if known is not None else "unknown before it is fetched"
        return f"{' and '.join(parts)}; size: {told}; licence: {self.licence}"


def _deepfri(prefix: str) -> Source:
    lists = tuple(f"{prefix}_{part}" for part in ("annot.tsv", "train.txt", "valid.txt", "test.csv"))
    return Source(lists, DEEPFRI, licence="lists of DeepFRI: BSD 3-Clause; PDB coordinates: CC0 1.0")


_TORCHDRUG = "archives of torchdrug from DeepFRI's lists: BSD 3-Clause; PDB coordinates: CC0 1.0"
SOURCES: dict[tuple[str, str], Source] = {
    ("fold", ""): Source(
        tuple(
            f"HomologyTAPE/{name}.txt"
            for name in (
                *("class_map", "training", "validation"),
                *("test_fold", "test_superfamily", "test_family"),
            )
        ),
        IECONV,
        "pdbstyle-sel-gs-bib-95-1.75.tgz",
        SCOP,
        licence="lists of IEConv: MIT; SCOP 1.75 and ASTRAL: cite Fox et al. 2014; PDB coordinates: CC0 1.0",
    ),
    ("reaction", ""): Source(
        tuple(
            f"ProtFunct/{name}.txt"
            for name in ("training", "validation", "testing", "chain_functions", "unique_functions")
        ),
        IECONV,
        licence="lists of IEConv: MIT; PDB coordinates: CC0 1.0",
    ),
    ("ec", "torchdrug"): Source(
        archive="EnzymeCommission.zip",
        archive_bases=ZENODO,
        md5="33f799065f8ad75f87b709a87293bc65",
        licence=_TORCHDRUG,
    ),
    ("go", "torchdrug"): Source(
        archive="GeneOntology.zip",
        archive_bases=ZENODO,
        md5="376be1f088cd1fe720e1eaafb701b5cb",
        licence=_TORCHDRUG,
    ),
    ("ec", "deepfri"): _deepfri("nrPDB-EC_2020.04"),
    ("go", "deepfri"): _deepfri("nrPDB-GO_2019.06.18"),
}
"""By name and version; fold and reaction have one version."""


def find_source(name: str, version: str = "torchdrug") -> Source:
    """The source of a name; `version` chooses for EC and GO.

    Raises
    ------
    ConfigError
        The name or version is unknown.

    Examples
    --------
    >>> find_source("ec").archive
    'EnzymeCommission.zip'
    """
    if name not in NAMES:
        raise ConfigError("unknown benchmark", where="download", got=repr(name), expected=", ".join(NAMES))
    if name in ("fold", "reaction"):
        return SOURCES[name, ""]
    if (name, version) not in SOURCES:
        raise ConfigError(
            "unknown version", where="--version", got=repr(version), expected="torchdrug or deepfri"
        )
    return SOURCES[name, version]


def addresses_of(bases: Iterable[str], file: str, mirror: str | None) -> list[str]:
    """Addresses of a file, in the order in which they are tried."""
    return [f"{mirror.rstrip('/')}/{Path(file).name}"] if mirror else [f"{base}/{file}" for base in bases]


def by_hand(name: str, source: Source, mirror: str | None) -> str:
    """What a user without network does, with every address once."""
    command = f"protclip data download {name}"
    if source.lists and name in ("ec", "go"):
        command += " --version deepfri"
    archive = addresses_of(source.archive_bases, source.archive, mirror)[0] if source.archive else ""
    if not source.lists:
        return f"Without internet access here: fetch {archive} elsewhere and run `{command} --from-file FILE`"
    folder = addresses_of(source.list_bases, source.lists[0], mirror)[0].rsplit("/", 1)[0]
    names = ", ".join(Path(file).name for file in source.lists)
    text = f"Without internet access here: fetch {names} from {folder} (or a zip of that repository)"
    text += f", and {archive}," if archive else ""
    text += f" elsewhere and run `{command}` with --from-file for each"
    if not archive:
        text += f"; `protclip data build {name} --lists DIR --structures DIR` takes the structures"
    return text
