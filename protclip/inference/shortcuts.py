"""Methods by which a model embeds the modalities that come with protclip, called by their names."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from protclip.inference.embeddings import Embeddings
from protclip.typing import Display


class Shortcuts:
    """``embed_<items>(x)``: the general ``embed(x)`` where the modality is known."""

    @abstractmethod
    def embed(self, *source: Any, modality: str | None = None, **options: Any) -> Embeddings:
        """Embed items."""

    def embed_sequences(
        self,
        source: Any,
        *,
        per_residue: bool = False,
        id_column: str | None = None,
        sequence_column: str | None = None,
        progress: bool | Display | None = None,
    ) -> Embeddings:
        """Embed protein sequences; ``embed(source, modality="sequence")``.

        Parameters
        ----------
        source : object
            A sequence, a FASTA path, or a list, generator, array, dict, Series or DataFrame of sequences.
            Bio.Seq and SeqRecord objects are sequences, and here Protein objects are too.
        per_residue, id_column, sequence_column, progress
            See :meth:`protclip.AlignedModel.embed`.

        Returns
        -------
        Embeddings
            Inputs that cannot be read are listed in ``failed``, with a warning.

        Raises
        ------
        ProtclipError
            If the input is of another kind, nothing can be embedded, or the model was trained on vectors
            instead of sequences.
        """
        return self.embed(
            source,
            modality="sequence",
            per_residue=per_residue,
            id_column=id_column,
            sequence_column=sequence_column,
            progress=progress,
        )

    def embed_structures(
        self, source: Any, *, per_residue: bool = False, progress: bool | Display | None = None
    ) -> Embeddings:
        """Embed protein structures; ``embed(source, modality="structure")``.

        Parameters
        ----------
        source : object
            A path, a folder, a Protein, a structure of Bio.PDB, gemmi or biotite, or a list or dict of these.
            Each protein chain of a structure with several is an item, ``<file>_<chain>``.
        per_residue, progress
            See :meth:`protclip.AlignedModel.embed`.

        Returns
        -------
        Embeddings
            Inputs that cannot be read are listed in ``failed``, with a warning.

        Raises
        ------
        ProtclipError
            If the input is of another kind, or nothing can be embedded.
        """
        return self.embed(source, modality="structure", per_residue=per_residue, progress=progress)
