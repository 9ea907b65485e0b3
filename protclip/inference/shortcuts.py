"""Methods by which a model embeds the modalities that come with protclip, called by their names."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from protclip.inference.embeddings import Embeddings


class Shortcuts:
    """``embed_<items>`` beside the general ``embed(name, source)``."""

    @abstractmethod
    def embed(self, name: str, source: Any, *, per_residue: bool = False) -> Embeddings:
        """Embed items of side ``name``."""

    def embed_sequences(self, source: Any, *, per_residue: bool = False) -> Embeddings:
        """Embed protein sequences.

        Parameters
        ----------
        source : list of str, dict of id to str, or path of a FASTA file
            A list gets the ids ``"0"``, ``"1"``, ...
        per_residue : bool
            Also keep the tower's residue features.

        Returns
        -------
        Embeddings
            Inputs that cannot be read are listed in ``failed``, with a warning.

        Raises
        ------
        ProtclipError
            If nothing can be embedded, or the model was trained on vectors instead of sequences.
        """
        return self.embed("sequence", source, per_residue=per_residue)

    def embed_structures(self, source: Any, *, per_residue: bool = False) -> Embeddings:
        """Embed protein structures.

        Parameters
        ----------
        source : path, folder, Protein, Bio.PDB object, or list or dict of these
            Each protein chain of a file with several is an item, ``<file>_<chain>``.
        per_residue : bool
            Also keep the tower's residue features.

        Returns
        -------
        Embeddings
            Inputs that cannot be read are listed in ``failed``, with a warning.

        Raises
        ------
        ProtclipError
            If nothing can be embedded.
        """
        return self.embed("structure", source, per_residue=per_residue)
