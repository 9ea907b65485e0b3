"""Protein structures as a modality: files or corpus entries -> residue graphs -> CDConv or GearNet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, ClassVar, cast

import numpy as np
from torch import Tensor

from protclip.compression import without_suffix
from protclip.data.corpus.store import Corpus
from protclip.data.files.folder_listing import FolderListing, list_folder
from protclip.data.files.item_names import ItemName, item_names, names_below
from protclip.data.files.members import is_archive, member_names, members
from protclip.data.files.pipes import is_pipe, look_into, open_input, pipe_name
from protclip.data.files.spans import Span, corpus_rows, is_corpus
from protclip.errors import ProtclipError, StructureError
from protclip.modalities.base import Batch, Encoder, Modality, call_with_options
from protclip.structure import Protein, read_chains
from protclip.structure.augment import augment_structure
from protclip.structure.encoders.by_name import EncoderConfig, encoder_config, take_encoder
from protclip.structure.encoders.encoder import CDConvEncoder
from protclip.structure.reading.formats import sniff
from protclip.structure.reading.objects import OBJECTS, is_structure_object, object_id
from protclip.structure.reading.source import LARGEST, Content, stem_of, suffix_of

_DOMAIN_ID = re.compile(r"[0-9][A-Za-z0-9]{4}[0-9]{2}")
"""Names of CATH's domain files, which have no ending."""


class StructureModality(Modality[Protein]):
    """Structures seen by CDConv, or by another of :data:`protclip.structure.encoders.by_name.ENCODERS`.

    Parameters
    ----------
    config : CDConvConfig or GearNetConfig
        Architecture and input (``residues`` as published, or ``geometry`` alone).
    noise, drop, crop : float
        Augmented view: standard deviation of the coordinate noise in Angstrom, share of residues left out,
        smallest share kept by contiguous cropping.
    min_plddt : float
        Residues of predicted models below this confidence are left out on reading.

    Examples
    --------
    >>> side = StructureModality(encoder_config("cdconv", "tiny"))
    >>> protein = Protein.from_ca("demo", "GAV", np.eye(3) * 3.8)
    >>> side.encoder.eval()(side.collate([protein, protein])).shape[0]
    2
    """

    name = "structure"
    budget: ClassVar[int] = 8192

    def __init__(
        self,
        config: EncoderConfig,
        *,
        noise: float = 0.1,
        drop: float = 0.1,
        crop: float = 0.7,
        min_plddt: float = 0.0,
    ) -> None:
        self.architecture = config
        self.encoder = cast(Encoder, config.build())
        self.view = {"noise": noise, "drop": drop, "crop": crop}
        self.min_plddt = min_plddt

    def config(self) -> dict[str, Any]:
        """Architecture and augmentation as plain values."""
        return {self.architecture.kind: self.architecture.to_dict(), **self.view, "min_plddt": self.min_plddt}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StructureModality:
        """Rebuild from :meth:`config`."""
        options = dict(config)
        return cls(take_encoder(options), **options)

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, source: Any = None, seed: int = 0
    ) -> StructureModality:
        """``encoder`` (cdconv), ``size`` (small) and ``input`` (residues), and the constructor's options."""
        rest = dict(options)
        config = encoder_config(
            rest.pop("encoder", "cdconv"), rest.pop("size", "small"), input=rest.pop("input", "residues")
        )
        side: StructureModality = call_with_options(
            cls, rest, where=f"options of {cls.name} (with encoder, size, input)", config=config
        )
        return side

    def collate(self, items: Sequence[Protein]) -> Batch:
        """Packed residue graphs with their neighbour lists."""
        return cast(Batch, self.architecture.collate(items))

    def augment(self, item: Protein, rng: np.random.Generator) -> Protein:
        """Coordinate noise, residue dropout and contiguous cropping."""
        return augment_structure(item, rng, **self.view)

    def cost(self, item: Protein) -> int:
        """Number of residues."""
        return len(item)

    def remarks(self, items: Iterable[Protein]) -> dict[str, int]:
        """How many structures have further models."""
        count = sum("model" in item.dropped for item in items)
        return {"of several models the first": count} if count else {}

    def digest(self, item: Protein) -> bytes:
        """Hash of everything that the encoder sees."""
        value = hashlib.sha256(item.sequence.encode())
        for array in (item.ca, item.position):
            value.update(np.ascontiguousarray(array).tobytes())
        return value.digest()

    def encode_residues(self, batch: Any) -> list[Tensor]:
        """Features of every stage or layer at residue resolution, one [L, their sum] tensor per protein."""
        encoder = cast(CDConvEncoder, self.encoder)
        return encoder.encode_residues(batch)

    def read(self, source: Any) -> Iterable[tuple[str, Protein | Exception]]:
        """Proteins from a file, a folder and those below it, from objects, or from several of these.

        Objects are Proteins and the structures of Bio.PDB, gemmi and biotite. Every protein chain of a
        multi-chain structure is an item, ``<stem>_<chain>``, or ``<id>_<chain>`` of a mapping.
        """
        if isinstance(source, Protein):
            yield source.id, source
        elif isinstance(source, (str, Path)):
            yield from self._read_path(Path(source))
        elif is_structure_object(source):  # before what is iterable: these are too
            name = getattr(source, "id", None) or getattr(source, "name", None) or type(source).__name__
            yield from self._read_one(source, str(name))
        elif isinstance(source, Mapping):
            for name, value in source.items():
                yield from self._read_as(str(name), value)
        elif isinstance(source, (list, tuple)) and all(isinstance(part, (str, Path)) for part in source):
            yield from self.read_paths([Path(part) for part in source])
        elif isinstance(source, Iterable):
            for part in source:
                yield from self.read(part)
        else:
            raise StructureError(
                "cannot be read as structures",
                got=type(source).__name__,
                expected=f"a path, a folder, a Protein, {OBJECTS}, or a list of them",
            )

    def accepts(self, path: Path) -> bool:
        """A structure file, an archive, a corpus file, a folder that holds one, or a pipe of a structure."""
        if path.is_dir():
            return bool(self._listing(path).files)
        return _is_readable(path) or _holds_structure(path)

    takes: ClassVar[str] = f"a Protein, or {OBJECTS}"

    def recognises(self, value: object, *, named: bool = False) -> bool:
        """Proteins, and structures that other packages hold in memory."""
        return isinstance(value, Protein) or is_structure_object(value)

    def own_id(self, value: Any) -> str:
        """The id of a protein, or the name of a structure (with the chain, for a chain of one)."""
        return value.id if isinstance(value, Protein) else object_id(value)

    def files(self, path: Path) -> list[Path]:
        """Structure files, archives and corpus files in a folder and below it; any other path is a file.

        What else stands in the folder is counted in a warning.

        Raises
        ------
        StructureError
            If the folder holds none.
        """
        if not path.is_dir():
            return [path]
        listing = self._listing(path)
        if not listing.files:
            raise StructureError(
                "no structure files in the folder",
                where=str(path),
                got=f"{len(listing.left_out)} entries of other kinds",
                expected="files named *.pdb, *.ent, *.cif, *.bcif (or compressed), CATH ids, or archives",
            )
        listing.warn(path)
        return listing.files

    def _listing(self, folder: Path) -> FolderListing:
        return list_folder(folder, _is_readable, "not named like a structure")

    def read_span(self, span: Span) -> Iterable[tuple[str, Protein | Exception]]:
        """One structure file, or the members of a tar or zip archive or of a corpus file."""
        path = span.path
        if is_archive(path):
            facts = path.stat()
            names = member_names(path, (facts.st_size, facts.st_mtime_ns), stem_of)
            for name, data in members(span):
                if is_structure_name(name):
                    yield from self._read_one(Content(name, data), PurePath(name).name, names.get(name))
        elif is_corpus(path):
            with Corpus.open(path) as corpus:
                for rows in corpus_rows(corpus, span):
                    yield from ((protein.id, protein) for protein in corpus.proteins(rows))
        elif span.start == 0:
            yield from self._read_one(path, path.name, span.name)

    def _read_path(self, path: Path) -> Iterable[tuple[str, Protein | Exception]]:
        if is_pipe(path):
            yield from self._read_one(path, pipe_name(path))
        elif path.is_dir() or is_archive(path) or is_corpus(path):
            yield from self._read_files(path, self.files(path))
        else:
            yield from self._read_one(path, path.name)

    def _read_as(self, id: str, source: Any) -> Iterable[tuple[str, Protein | Exception]]:
        """What stands under an id of the user's: one structure, or several that take the id in front."""
        path = Path(source) if isinstance(source, (str, Path)) else None
        if is_structure_object(source) or (
            path and not (path.is_dir() or is_archive(path) or is_corpus(path))
        ):
            yield from self._read_one(path or source, id, ItemName(id, id))
            return
        found = list(self.read(source))
        for own, item in found:
            yield f"{id}_{own}" if len(found) > 1 else id, item

    def read_paths(self, paths: Sequence[Path]) -> Iterable[tuple[str, Protein | Exception]]:
        """Several inputs; files are called by their names, and by folders where that is not enough."""
        single = [path for path in paths if not (path.is_dir() or is_pipe(path) or is_archive(path))]
        names = dict(zip(single, item_names(single, stem_of), strict=True))
        for path in paths:
            if path in names and not is_corpus(path):
                yield from self._read_one(path, path.name, names[path])
            else:
                yield from self._read_path(path)

    def _read_files(self, source: Path, files: Sequence[Path]) -> Iterable[tuple[str, Protein | Exception]]:
        for file, name in zip(files, names_below(source, files, stem_of), strict=True):
            yield from self.read_span(Span.whole(file, name))

    def _read_one(
        self, source: Any, name: str, called: ItemName | None = None
    ) -> Iterable[tuple[str, Protein | Exception]]:
        try:
            if isinstance(source, Path) and is_pipe(source):
                source = _piped(source)
            proteins = read_chains(
                source, min_plddt=self.min_plddt or None, id=called.name if called else None
            )
        except ProtclipError as error:
            yield called.file if called else name, error
            return
        for protein in proteins:
            if called and called.taken and len(proteins) > 1 and protein.id != called.name:
                id = called.part(protein.id[len(called.name) + 1 :])
                protein = replace(protein, id=id)
            yield protein.id, protein

    def describe(self) -> dict[str, Any]:
        """What the tower sees and how large it is."""
        sees = (
            "residue types and C-alpha geometry (it can match a sequence by composition)"
            if self.architecture.input == "residues"
            else "C-alpha geometry alone (no residue types)"
        )
        facts = {"tower": self.architecture.tower, "input": self.architecture.input, "sees": sees}
        return {**facts, **self.architecture.facts(), **super().describe()}


def _is_readable(path: Path) -> bool:
    """A file that holds structures by its name, or a corpus file."""
    return (is_structure_name(path.name) and path.is_file()) or is_archive(path) or is_corpus(path)


def is_structure_name(name: str) -> bool:
    """True for a path whose name says structure, plain or compressed, or is a CATH id; not if it is hidden.

    Examples
    --------
    >>> [is_structure_name(name) for name in ("1abc.PDB.gz", "x/1oaiA00", "1abc.pdb2", "LICENSE", ".a/b.pdb")]
    [True, True, True, False, False]
    """
    if any(part.startswith(".") and part.strip(".") for part in PurePath(name).parts):
        return False
    last = PurePath(name).name
    return bool(suffix_of(last)) or _DOMAIN_ID.fullmatch(without_suffix(last)) is not None


def _holds_structure(path: Path) -> bool:
    """Whether a pipe, or a file whose name has no ending, begins like a structure."""
    if not (is_pipe(path) or (path.is_file() and not without_suffix(path.name).strip(".").count("."))):
        return False
    try:
        sniff(look_into(path), str(path))
    except ProtclipError:
        return False
    return True


def _piped(path: Path) -> Content:
    try:
        with open_input(path) as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise StructureError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
    if len(data) > LARGEST:
        raise StructureError(
            "larger than any structure", where=str(path), got=f"over {LARGEST} bytes", expected="a structure"
        )
    return Content(pipe_name(path), data)
