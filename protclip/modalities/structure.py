"""Protein structures as a modality: files or corpus entries -> residue graphs -> CDConv or GearNet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from torch import Tensor

from protclip.data.corpus.store import Corpus
from protclip.data.files.spans import Span, corpus_rows, is_archive, is_corpus, members
from protclip.errors import ProtclipError, StructureError
from protclip.modalities.base import Batch, Encoder, Modality, call_with_options
from protclip.structure import Protein, read_chains
from protclip.structure.augment import augment_structure
from protclip.structure.encoders.by_name import EncoderConfig, encoder_config, take_encoder
from protclip.structure.encoders.encoder import CDConvEncoder
from protclip.structure.reading.objects import OBJECTS, is_structure_object, object_id
from protclip.structure.reading.read import Content

STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".bcif")


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
        """A structure file, an archive, a corpus file, or a folder that holds one."""
        files = path.rglob("*") if path.is_dir() else (path,)
        return any(is_structure_file(file) or is_archive(file) or is_corpus(file) for file in files)

    takes: ClassVar[str] = f"a Protein, or {OBJECTS}"

    def recognises(self, value: object, *, named: bool = False) -> bool:
        """Proteins, and structures that other packages hold in memory."""
        return isinstance(value, Protein) or is_structure_object(value)

    def own_id(self, value: Any) -> str:
        """The id of a protein, or the name of a structure (with the chain, for a chain of one)."""
        return value.id if isinstance(value, Protein) else object_id(value)

    def files(self, path: Path) -> list[Path]:
        """Structure files, archives and corpus files in a folder and below it; any other path is a file.

        Raises
        ------
        StructureError
            If the folder holds none.
        """
        if not path.is_dir():
            return [path]
        files = [f for f in sorted(path.rglob("*")) if is_structure_file(f) or is_archive(f) or is_corpus(f)]
        if not files:
            raise StructureError(
                "no structure files in the folder",
                where=str(path),
                expected="files named *.pdb, *.ent, *.cif, *.bcif (or .gz of these), CATH ids, or archives",
            )
        return files

    def read_span(self, span: Span) -> Iterable[tuple[str, Protein | Exception]]:
        """One structure file, or the members of a tar or zip archive or of a corpus file."""
        path = span.path
        if is_archive(path):
            for name, data in members(span):
                if is_structure_name(name):
                    yield from self._read_one(Content(name, data), name)
        elif is_corpus(path):
            with Corpus.open(path) as corpus:
                for rows in corpus_rows(corpus, span):
                    yield from ((protein.id, protein) for protein in corpus.proteins(rows))
        elif span.start == 0:
            yield from self._read_one(path, path.name)

    def _read_path(self, path: Path) -> Iterable[tuple[str, Protein | Exception]]:
        if not (path.is_dir() or is_archive(path) or is_corpus(path)):
            yield from self._read_one(path, path.name)
            return
        for file in self.files(path):
            yield from self.read_span(Span.whole(file))

    def _read_as(self, id: str, source: Any) -> Iterable[tuple[str, Protein | Exception]]:
        """What stands under an id of the user's: one structure, or several that take the id in front."""
        path = Path(source) if isinstance(source, (str, Path)) else None
        if is_structure_object(source) or (
            path and not (path.is_dir() or is_archive(path) or is_corpus(path))
        ):
            yield from self._read_one(source, id, id)
            return
        found = list(self.read(source))
        for own, item in found:
            yield f"{id}_{own}" if len(found) > 1 else id, item

    def _read_one(
        self, source: Any, name: str, id: str | None = None
    ) -> Iterable[tuple[str, Protein | Exception]]:
        try:
            proteins = read_chains(source, min_plddt=self.min_plddt or None, id=id)
        except ProtclipError as error:
            yield name, error
        else:
            yield from ((protein.id, protein) for protein in proteins)

    def describe(self) -> dict[str, Any]:
        """What the tower sees and how large it is."""
        sees = (
            "residue types and C-alpha geometry (it can match a sequence by composition)"
            if self.architecture.input == "residues"
            else "C-alpha geometry alone (no residue types)"
        )
        facts = {"tower": self.architecture.tower, "input": self.architecture.input, "sees": sees}
        return {**facts, **self.architecture.facts(), **super().describe()}


def is_structure_file(path: Path) -> bool:
    """True for a visible file whose name says structure, with or without ``.gz``, or is a CATH id."""
    return is_structure_name(path.name) and path.is_file()


def is_structure_name(name: str) -> bool:
    """True for a name that says structure, as of :func:`is_structure_file`."""
    if name.startswith("."):
        return False
    name = name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    return suffix in STRUCTURE_SUFFIXES or (suffix == "" and len(name) == 7)
