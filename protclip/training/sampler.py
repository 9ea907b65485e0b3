"""Which items make up the batch of a step: matched pairs first, then independently drawn unpaired rows."""

from __future__ import annotations

from collections.abc import Sequence
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
        Item of the first and of the second side of each matched pair.
    unpaired : one int64 array for each side
        Drawn independently of each other.
    """

    pairs: Indices
    unpaired: tuple[Indices, ...]


@dataclass(frozen=True)
class PairedUnpairedSampler:
    """Semi-supervised batches, a pure function of (seed, step).

    Every pool is passed over in a fresh random order each round, without replacement, whatever the
    others do; the remainder of a round that does not fill a batch is left for the next, so that no item
    stands twice in one batch. Nothing is kept between steps, so resuming needs no sampler state.

    Parameters
    ----------
    pairs : int64 array [P, 2]
        Known matches as (item of the first side, item of the second).
    pools : one int64 array for each side
        Items without a partner.
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
    >>> sampler = PairedUnpairedSampler(pairs, [np.arange(4, 20)] * 2, batch_size=8, seed=0)
    >>> rows = sampler.batch(0)
    >>> len(rows.pairs), [len(drawn) for drawn in rows.unpaired]
    (4, [4, 4])
    """

    pairs: Indices
    pools: Sequence[Indices]
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
        if len(self) == 0:
            raise ConfigError("no training data", got="0 pairs and 0 unpaired items")

    def __len__(self) -> int:
        """Training items: pairs, and the larger of the pools."""
        return len(self.pairs) + max(map(len, self.pools))

    @property
    def n_pairs(self) -> int:
        """M, pairs in each batch."""
        available = len(self.pairs)
        if not self.use_unpaired or min(map(len, self.pools)) == 0:
            return min(available, self.batch_size)
        if self.pairs_per_batch is not None:
            return min(available, self.pairs_per_batch, self.batch_size)
        share = available / len(self)
        return min(available, max(3 * self.batch_size // 4, round(share * self.batch_size)))

    @property
    def n_unpaired(self) -> tuple[int, ...]:
        """Unpaired rows of each side in each batch."""
        room = self.batch_size - self.n_pairs if self.use_unpaired else 0
        return tuple(min(room, len(pool)) for pool in self.pools)

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch: as many as pass once over all training items, whatever the objective.

        Objectives that use the pairs alone get the same number, so that arms share one budget.
        """
        return max(1, round(len(self) / self.batch_size))

    def batch(self, step: int) -> BatchIndices:
        """Rows of step ``step`` (from 0)."""
        drawn = (
            pool[self._draw(stream, len(pool), size, step)]
            for stream, (pool, size) in enumerate(zip(self.pools, self.n_unpaired, strict=True), 1)
        )
        return BatchIndices(self.pairs[self._draw(0, len(self.pairs), self.n_pairs, step)], tuple(drawn))

    def _draw(self, stream: int, pool: int, size: int, step: int) -> Indices:
        if size == 0:
            return np.zeros(0, np.int64)
        round_, slot = divmod(step, pool // size)
        order = np.random.default_rng([self.seed, stream, round_]).permutation(pool)
        return order[slot * size : (slot + 1) * size]
