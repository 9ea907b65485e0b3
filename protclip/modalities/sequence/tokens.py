"""Amino acid sequences as packed ESM-2 tokens, long chains in overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protclip.errors import DataError
from protclip.modalities.sequence.attention import Packing
from protclip.modalities.sequence.esm2 import CLS, EOS, MASK, TOKENS

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
"""Letters of ESM-2's alphabet; J (leucine or isoleucine) is read as X, lower case as upper case."""

MASK_LETTER = "#"
"""Stands for ``<mask>`` in augmented sequences; never accepted from files."""


def _letter_table() -> NDArray[np.int64]:
    table = np.full(256, -1, np.int64)
    for letter in LETTERS:
        table[[ord(letter), ord(letter.lower())]] = TOKENS.index(letter)
    table[[ord("J"), ord("j")]] = TOKENS.index("X")
    return table


_TOKEN_OF = _letter_table()
_TOKEN_OR_MASK_OF = _TOKEN_OF.copy()
_TOKEN_OR_MASK_OF[ord(MASK_LETTER)] = MASK


def tokenize(sequence: str, where: str | None = None, *, masks: bool = False) -> NDArray[np.int64]:
    """Token numbers [L] of the residues of one sequence, without ``<cls>`` and ``<eos>``.

    Parameters
    ----------
    sequence : str
        L letters.
    where : str, optional
        Id of the sequence, for the error.
    masks : bool
        Accept :data:`MASK_LETTER`.

    Raises
    ------
    DataError
        If the sequence is empty or holds a letter outside the alphabet; names id, position and letter.

    Examples
    --------
    >>> tokenize("LAGJx").tolist()
    [4, 5, 6, 24, 24]
    >>> tokenize("LA*", where="demo")
    Traceback (most recent call last):
    protclip.errors.DataError: demo: residue 3 is not an amino acid letter; got '*', expected one of \
LAGVSERTIDPKQNFYMHWCXBUZOJ.-. Remove it, or write X for an unknown residue
    """
    if not sequence:
        raise DataError("empty sequence", where=where, got="0 residues", expected="at least 1")
    raw = np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)
    tokens: NDArray[np.int64] = (_TOKEN_OR_MASK_OF if masks else _TOKEN_OF)[raw]
    # A character outside latin-1 becomes '?', one byte, so positions stay right.
    bad = np.flatnonzero(tokens < 0)
    if len(bad):
        raise DataError(
            f"residue {bad[0] + 1} is not an amino acid letter",
            where=where,
            got=repr(sequence[bad[0]]),
            expected="one of LAGVSERTIDPKQNFYMHWCXBUZOJ.-",
            hint="Remove it, or write X for an unknown residue",
        )
    return tokens


def windows(length: int, longest: int) -> list[tuple[int, int]]:
    """Evenly spaced windows over a chain: one up to ``longest`` residues, else with overlaps of a quarter.

    Examples
    --------
    >>> windows(8, 8), windows(17, 8)
    ([(0, 8)], [(0, 8), (4, 12), (9, 17)])
    """
    if length <= longest:
        return [(0, length)]
    step = max(1, longest - longest // 4)
    count = 1 + -(-(length - longest) // step)
    starts = [(length - longest) * i // (count - 1) for i in range(count)]
    return [(start, start + longest) for start in starts]


@dataclass(frozen=True)
class TokenBatch:
    """Packed token windows of n sequences.

    Attributes
    ----------
    tokens : int64 tensor [T]
        Windows one after the other, each ``<cls>``, residues, ``<eos>``.
    packing : Packing
        Where each window lies.
    residues : int64 tensor [P]
        Places of residue tokens in ``tokens``.
    rows : int64 tensor [P] or None
        Residue (0..R-1, over the whole batch) that each of them stands for; None where no sequence has
        several windows, so that they are the residues themselves.
    sizes : tuple of int
        Residues of each sequence; they sum to R.
    windowed : int
        Sequences that were longer than one window.
    """

    tokens: Tensor
    packing: Packing
    residues: Tensor
    rows: Tensor | None
    sizes: tuple[int, ...]
    windowed: int

    def __len__(self) -> int:
        return len(self.sizes)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """Return the batch on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> TokenBatch:
        """Return the batch in page-locked memory, for transfers that overlap with computation."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Callable[[Tensor], Tensor]) -> TokenBatch:
        return TokenBatch(
            move(self.tokens),
            self.packing.map(move),
            move(self.residues),
            None if self.rows is None else move(self.rows),
            self.sizes,
            self.windowed,
        )


def collate_sequences(sequences: Sequence[str], *, longest: int = 1022) -> TokenBatch:
    """Pack sequences into one batch, those above ``longest`` residues in overlapping windows.

    Raises
    ------
    DataError
        See :func:`tokenize`.

    Examples
    --------
    >>> batch = collate_sequences(["LAG", "V"])
    >>> batch.tokens.tolist(), batch.residues.tolist(), batch.sizes
    ([0, 4, 5, 6, 2, 0, 7, 2], [1, 2, 3, 6], (3, 1))
    """
    parts: list[NDArray[np.int64]] = []
    lengths: list[int] = []
    rows: list[NDArray[np.int64]] = []
    begin, end = np.array([CLS]), np.array([EOS])
    first, windowed = 0, 0
    for sequence in sequences:
        tokens = tokenize(sequence, masks=True)
        spans = windows(len(tokens), longest)
        windowed += len(spans) > 1
        for start, stop in spans:
            parts += [begin, tokens[start:stop], end]
            lengths.append(stop - start + 2)
            rows.append(np.arange(first + start, first + stop))
        first += len(tokens)
    packing = Packing.of(lengths)
    inner = torch.ones(int(packing.starts[-1]), dtype=torch.bool)
    inner[packing.starts[:-1].long()] = False
    inner[packing.starts[1:].long() - 1] = False
    return TokenBatch(
        torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0, dtype=torch.int64),
        packing,
        inner.nonzero()[:, 0],
        torch.from_numpy(np.concatenate(rows)) if windowed else None,
        tuple(len(sequence) for sequence in sequences),
        windowed,
    )
