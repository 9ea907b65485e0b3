"""What a trained head is given: structures, sequences or vectors, from files or from memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError, StructureError
from protclip.inference.inputs import Recognised, recognise
from protclip.inference.readings import is_path
from protclip.modalities.base import Modality
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.modalities.vectors import VectorsModality
from protclip.structure.encoders.encoder import CDConvConfig
from protclip.structure.protein import Protein
from protclip.tasks.network import TaskNetwork

_SMALLEST = CDConvConfig.sized("tiny", channels=(4,), radii=(8.0,), base_width=64.0)
"""Of a tower that only reads."""


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

    @cached_property
    def _sides(self) -> dict[str, Modality[Any]]:
        """What reads the input; structures and sequences are known whatever the towers are."""
        if self.needs == "vectors":
            return dict(self.network.sides)
        structures, sequences = (self.network.sides.get(name) for name in ("structure", "sequence"))
        if not isinstance(structures, StructureModality):
            structures = StructureModality(_SMALLEST)
        if not isinstance(sequences, SequenceModality):
            sequences = SequenceModality.create("scratch", init="random")
        return {"structure": structures, "sequence": sequences}

    def recognise(self, source: Any) -> Recognised:
        """What ``source`` is; see :func:`protclip.inference.inputs.recognise`.

        A path that does not look like structures is one of sequences.

        Raises
        ------
        ProtclipError
            If it can be read in two ways, or not at all.
        """
        if isinstance(source, Recognised):
            return source
        sides, modality = self._sides, None
        if self.needs == "vectors":
            modality = self.network.names[0]
        elif is_path(source) and not sides["sequence"].recognises(source):
            path = Path(source)
            modality = "structure" if path.is_dir() or sides["structure"].accepts(path) else "sequence"
        return recognise(source, sides, modality=modality)

    def sequences_alone(self, source: Any) -> bool:
        """Whether ``source`` holds sequences although the head was trained on structures too.

        Raises
        ------
        ConfigError
            If the head cannot do without structures.
        """
        found = self.recognise(source)
        if self.needs != "structure" or found.side != "sequence":
            return False
        if self.network.alone is None:
            raise self._needs_structures(found.where)
        return True

    def read(self, source: Any, alone: bool) -> Iterator[tuple[str, Any]]:
        """Ids with the items of the towers.

        Where there is a structure tower, that is a Protein, with its vector where the sequence side is one.
        """
        found = self.recognise(source)
        if self.pairs_vectors and self.vectors is None:
            raise ConfigError(
                "this head needs a structure and a precomputed vector of every protein",
                where=str(self.path),
                hint="Give the vectors, by the ids of the structures, with --vectors FILE (in Python: "
                "load_head(..., vectors=FILE))",
            )
        for id, item in found.items():
            if found.side == "structure" and self.needs == "structure":
                yield id, self._with_vector(id, _traced(item))
            else:
                yield id, item.sequence if isinstance(item, Protein) else item

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


def _traced(item: Any) -> Any:
    if isinstance(item, Protein) and not item.has_ca.any():
        return StructureError("no residue has a C-alpha, so there is nothing to encode", where=item.id)
    return item
