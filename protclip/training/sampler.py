"""Which items make up the batch of a step: matched pairs first, then independently drawn unpaired rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from protclip.errors import ConfigError
from protclip.typing import Indices


class BatchIndices(NamedTuple):
    """Rows of one step.

    Attributes
    ----------
    pairs : int64 array [M, 2]
        Left and right index of each matched pair.
    left, right : int64 arrays
        Unpaired rows, drawn independently of each other.
    """

    pairs: Indices
    left: Indices
    right: Indices


@dataclass(frozen=True)
class PairedUnpairedSampler:
    """Semi-supervised batches, a pure function of (seed, step).

    Every pool is passed over in a fresh random order each round, without replacement, whatever the
    others do; the remainder of a round that does not fill a batch is left for the next, so that no item
    stands twice in one batch. Nothing is kept between steps, so resuming needs no sampler state.

    Parameters
    ----------
    pairs : int64 array [P, 2]
        Known matches as (left index, right index).
    left_pool, right_pool : int64 arrays
        Unpaired left and right indices.
    batch_size : int
        N, rows per modality.
    pairs_per_batch : int or None
        M. None takes three quarters of the batch or, if larger, the pairs' share of the data: with half of it
        (1:1, as in S-CLIP) the contrastive loss measurably lacks pairs and negatives.
    use_unpaired : bool
        False gives batches of pairs alone (objectives ``clip`` and ``clip-all``).
    seed : int
        Seed of every draw.

    Raises
    ------
    ConfigError
        If there is nothing to draw from or a size is not positive.

    Examples
    --------
    >>> pairs = np.stack([np.arange(4), np.arange(4)], 1)
    >>> sampler = PairedUnpairedSampler(pairs, np.arange(4, 20), np.arange(4, 20), batch_size=8, seed=0)
    >>> [len(rows) for rows in sampler.batch(0)]
    [4, 4, 4]
    """

    pairs: Indices
    left_pool: Indices
    right_pool: Indices
    batch_size: int
    pairs_per_batch: int | None = None
    use_unpaired: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(
                "too small", where="--batch-size", got=str(self.batch_size), expected="at least 2"
            )
        if self.pairs_per_batch is not None and self.pairs_per_batch < 0:
            raise ConfigError("negative", where="--pairs-per-batch", got=str(self.pairs_per_batch))
        if not self.use_unpaired and len(self.pairs) == 0:
            raise ConfigError(
                "this objective learns from pairs alone, and there are none",
                where="--paired",
                got="0 pairs",
                hint="Raise --paired or choose --objective setclip",
            )
        if len(self.pairs) + max(len(self.left_pool), len(self.right_pool)) == 0:
            raise ConfigError("no training data", got="0 pairs and 0 unpaired items")

    @property
    def n_pairs(self) -> int:
        """M, pairs in each batch."""
        available = len(self.pairs)
        if not self.use_unpaired or len(self.left_pool) == 0 or len(self.right_pool) == 0:
            return min(available, self.batch_size)
        if self.pairs_per_batch is not None:
            return min(available, self.pairs_per_batch, self.batch_size)
        share = available / (available + max(len(self.left_pool), len(self.right_pool)))
        return min(available, max(3 * self.batch_size // 4, round(share * self.batch_size)))

    @property
    def n_unpaired(self) -> tuple[int, int]:
        """Unpaired left and right rows in each batch."""
        if not self.use_unpaired:
            return 0, 0
        room = self.batch_size - self.n_pairs
        return min(room, len(self.left_pool)), min(room, len(self.right_pool))

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch: as many as pass once over all training items, whatever the objective.

        Objectives that use the pairs alone get the same number, so that arms share one budget.
        """
        items = len(self.pairs) + max(len(self.left_pool), len(self.right_pool))
        return max(1, round(items / self.batch_size))

    def batch(self, step: int) -> BatchIndices:
        """Rows of step ``step`` (from 0)."""
        left, right = self.n_unpaired
        return BatchIndices(
            self.pairs[self._draw(0, len(self.pairs), self.n_pairs, step)],
            self.left_pool[self._draw(1, len(self.left_pool), left, step)],
            self.right_pool[self._draw(2, len(self.right_pool), right, step)],
        )

    def _draw(self, stream: int, pool: int, size: int, step: int) -> Indices:
        if size == 0:
            return np.zeros(0, np.int64)
        round_, slot = divmod(step, pool // size)
        order = np.random.default_rng([self.seed, stream, round_]).permutation(pool)
        return order[slot * size : (slot + 1) * size]
