"""What a trained head is given: structures, sequences or vectors, from files or from memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError, StructureError
from protclip.modalities.base import Modality
from protclip.modalities.structure import StructureModality
from protclip.modalities.vectors import VectorsModality
from protclip.structure.encoders.encoder import CDConvConfig
from protclip.structure.protein import Protein
from protclip.tasks.network import TaskNetwork


class HeadInputs:
    """Reads the sources that a head's towers can see; see :class:`protclip.tasks.predict.Head`.

    Parameters
    ----------
    network : TaskNetwork
    task : str
        Name of the task, for messages.
    path : Path
        Folder of the head, for messages.
    vectors : VectorFile, optional
        Vectors by protein id, for a head that sees a structure and a vector of every protein.

    Raises
    ------
    ConfigError
        If the head takes no such vectors, or vectors of another length.
    """

    def __init__(
        self, network: TaskNetwork, task: str, path: Path, vectors: VectorFile | None = None
    ) -> None:
        self.network, self.task, self.path, self.vectors = network, task, path, vectors
        if vectors is None:
            return
        if not self.pairs_vectors:
            raise ConfigError(
                "this head does not see structures and vectors together",
                where="--vectors",
                expected="a head trained with --towers both --vectors",
                hint="Give the vectors as the input" if self.needs == "vectors" else None,
            )
        side = next(s for s in network.sides.values() if isinstance(s, VectorsModality))
        if vectors.dim != side.dim:
            raise ConfigError(
                "the vectors are of another kind than those that the head was trained on",
                where=f"--vectors {vectors.path}",
                got=f"{vectors.dim} dimensions",
                expected=str(side.dim),
            )

    @property
    def pairs_vectors(self) -> bool:
        """Whether a structure and a precomputed vector of every protein are needed."""
        given = any(isinstance(side, VectorsModality) for side in self.network.sides.values())
        return given and self.needs == "structure"

    @property
    def needs(self) -> str:
        """What the inputs must be: ``sequence``, ``structure`` or ``vectors``."""
        if "structure" in self.network.names:
            return "structure"
        side = next(iter(self.network.sides.values()))
        return "vectors" if isinstance(side, VectorsModality) else "sequence"

    def sequences_alone(self, source: Any) -> bool:
        """Whether ``source`` holds sequences although the head was trained on structures too.

        Raises
        ------
        ConfigError
            If the head cannot do without structures.
        """
        if self.needs != "structure":
            return False
        path = Path(source) if isinstance(source, (str, Path)) else None
        if path is not None:
            found = path.is_file() and not _structures(self.network.sides["structure"]).accepts(path)
        else:
            found = _are_sequences(source)
        if found and self.network.alone is None:
            raise self._needs_structures("the input" if path is None else str(path))
        return found

    def read(self, source: Any, alone: bool) -> Iterator[tuple[str, Any]]:
        """Ids with the items of the towers.

        Where there is a structure tower, that is a Protein, with its vector where the sequence side is one.
        """
        path = Path(source) if isinstance(source, (str, Path)) else None
        if path is not None and not path.exists():
            raise DataError("no such file or folder", where=str(path))
        needs = "sequence" if alone else self.needs
        if needs == "vectors":
            yield from self.network.sides[self.network.names[0]].read(source)
            return
        if self.pairs_vectors and self.vectors is None:
            raise ConfigError(
                "this head needs a structure and a precomputed vector of every protein",
                where=str(self.path),
                hint="Give the vectors, by the ids of the structures, with --vectors FILE (in Python: "
                "load_head(..., vectors=FILE))",
            )
        reader = _structures(self.network.sides.get("structure"))
        if needs == "structure":
            for id, item in reader.read(source):
                yield id, self._with_vector(id, _traced(item))
            return
        side = self.network.sides["sequence"]
        if path is not None and (path.is_dir() or reader.accepts(path)):
            for id, item in reader.read(path):
                yield id, item.sequence if isinstance(item, Protein) else item
            return
        yield from side.read(source)

    def _with_vector(self, id: str, item: Any) -> Any:
        if self.vectors is None or not isinstance(item, Protein):
            return item
        if id not in self.vectors:
            return DataError("no vector of this protein", where=str(self.vectors.path), got=id)
        return item, self.vectors[[id]][0]

    def _needs_structures(self, where: str) -> ConfigError:
        both = "sequence" in self.network.names
        return ConfigError(
            "this head needs structures" + (", which its sequence tower feeds" if both else ""),
            where=where,
            got="sequences",
            expected="PDB, mmCIF or BinaryCIF files, or a folder of them",
            hint="Give predicted structures, or train a head with `protclip finetune "
            f"{self.task} --towers sequence`",
        )


def _structures(side: Modality[Any] | None) -> StructureModality:
    if isinstance(side, StructureModality):
        return side
    return StructureModality(CDConvConfig.sized("tiny", channels=(4,), radii=(8.0,), base_width=64.0))


def _traced(item: Any) -> Any:
    if isinstance(item, Protein) and not item.has_ca.any():
        return StructureError("no residue has a C-alpha, so there is nothing to encode", where=item.id)
    return item


def _are_sequences(source: Any) -> bool:
    """A list or mapping of strings that are no files."""
    if isinstance(source, Mapping):
        source = list(source.values())
    if not isinstance(source, (list, tuple)) or not source:
        return False
    return all(isinstance(part, str) and part.isalpha() and not Path(part).exists() for part in source)
