"""Soft targets for unpaired rows from a transport plan between the whole unpaired pools.

A batch is too small a sample for a plan.  The latest vectors of all training items are therefore kept in a
bank on each side; every few steps maps are fitted in closed form to the bank's pairs, improved by OT-EM
(:mod:`protclip.alignment`) on the bank's pools, and an entropic plan is made between the mapped pools.  Rows
of the plan are the targets of the batch's unpaired rows over the other side's pool, in cross-entropy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from protclip.alignment.refine import RefineOptions, refine
from protclip.alignment.sinkhorn import sinkhorn
from protclip.config.loss import LossConfig
from protclip.errors import ConfigError
from protclip.inference.encode import project_features
from protclip.losses import Views, soft_cross_entropy
from protclip.losses.pairwise import as_full, connected_zero, in_full_precision
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData, Side
from protclip.typing import Indices

Recompute = Callable[[Indices], Tensor]

PLAN_SEED = 6
"""Stream of random numbers that samples pools."""


class Bank(nn.Module):
    """Latest vectors of one side's training items, and its part of the latest plan.

    Parameters
    ----------
    paired, pool : int64 arrays [p], [n]
        Items of the pairs, in their order, and of the pool.  An item may be in several pairs.
    dim, plan_dim : int
        Width of the shared space and of the mapped one.
    recompute : callable, optional
        Items -> [n, dim] present vectors; given where they cost little.
    """

    def __init__(
        self, paired: Indices, pool: Indices, dim: int, plan_dim: int, recompute: Recompute | None
    ) -> None:
        super().__init__()
        self.items, self.recompute = np.unique(np.concatenate([paired, pool])), recompute
        size = int(self.items[-1]) + 1
        for name, members in (("place", self.items), ("pool_place", pool)):
            place = np.full(size, -1)
            place[members] = np.arange(len(members))
            self.register_buffer(name, torch.from_numpy(place), persistent=False)
        for name, members in (("pairs_at", paired), ("pool_at", pool)):
            at = torch.from_numpy(np.searchsorted(self.items, members))
            self.register_buffer(name, at, persistent=False)
        self.register_buffer("rows", torch.zeros(len(self.items), dim))
        self.register_buffer("seen", torch.zeros(len(self.items), dtype=torch.bool))
        self.register_buffer("mapped", torch.zeros(len(pool), plan_dim))
        self.register_buffer("planned", torch.zeros(len(pool), dtype=torch.bool))
        self.register_buffer("level", torch.full((len(pool),), -torch.inf))
        self.place: Tensor
        self.pool_place: Tensor
        self.pairs_at: Tensor
        self.pool_at: Tensor
        self.rows: Tensor
        self.seen: Tensor
        self.mapped: Tensor
        self.planned: Tensor
        self.level: Tensor

    def update(self, items: Tensor, rows: Tensor) -> None:
        """Take over the vectors [n, dim] of a batch's items [n]."""
        place = self.place[items]
        self.rows[place] = rows.to(self.rows.dtype)
        self.seen[place] = True

    def renew(self) -> None:
        """Compute all vectors anew, where that is cheap."""
        if self.recompute is not None:
            self.rows.copy_(self.recompute(self.items))
            self.seen.fill_(True)

    def pool_rows(self) -> Tensor:
        """[n, dim] vectors of the pool."""
        return self.rows[self.pool_at]

    def pool_seen(self) -> Tensor:
        """Bool [n]: which of them are known."""
        return self.seen[self.pool_at]


class TransportTargets(nn.Module):
    """The term of the objective: called with the views of each training step in turn, it keeps its own count.

    All its state (vectors, plan, number of steps) is in its state dictionary, so that a resumed run goes on
    exactly.  In several processes, each holds the same banks and makes the same plan.

    Parameters
    ----------
    config : LossConfig
        Its ``transport_`` entries.
    data : AlignmentData
        Pairs and pools.
    dim : int
        Width of the shared space.
    steps : int
        Steps of the whole run.
    seed : int
        Seed of the samples of large pools.
    recompute : pair of callables or None
        Items -> present vectors [n, dim], for a side whose vectors cost little (a frozen tower); None leaves
        the side to the batches.

    Raises
    ------
    ConfigError
        If a pool is empty.
    """

    def __init__(
        self,
        config: LossConfig,
        data: AlignmentData,
        dim: int,
        *,
        steps: int,
        seed: int = 0,
        recompute: tuple[Recompute | None, Recompute | None] = (None, None),
    ) -> None:
        super().__init__()
        if any(len(side.pool) == 0 for side in data.sides):
            raise ConfigError(
                "a transport plan needs unpaired items on both sides",
                where="--objective transport",
                got=" and ".join(f"{len(side.pool)} of {side.name}" for side in data.sides),
                hint="Lower --paired or add unpaired data; with pairs alone, choose --objective clip",
            )
        self.config, self.seed = config, seed
        self.warmup = round(config.transport_warmup * steps)
        # Without pairs, or before they have been seen, the plan lives in the shared space itself.
        self.plan_dim = max(config.transport_dim, dim)
        self.left, self.right = (
            Bank(members, side.pool, dim, self.plan_dim, again)
            for side, members, again in zip(data.sides, data.pairs.T, recompute, strict=True)
        )
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self.step: Tensor
        self.ready: Tensor

    @in_full_precision
    def forward(self, views: Views) -> Tensor:
        """Loss of one step: 0 before the first plan, then rising to full weight over the warm-up.

        Raises
        ------
        ConfigError
            The views do not say which items their rows are.
        """
        if views.u_items is None or views.v_items is None:
            raise ConfigError("transport targets need to know the items of the rows", where="u_items")
        step = int(self.step)
        with torch.no_grad():
            self.left.update(views.u_items, views.u.detach())
            self.right.update(views.v_items, views.v.detach())
            if step % self.config.transport_every == 0:
                self._plan(step)
            self.step += 1
        u, v = as_full(views.u), as_full(views.v)
        own = self.config.transport_temperature
        scale = 1 / own if own else views.scale
        total = connected_zero(u, v, scale)
        if not self.ready:
            return total
        n = views.n_pairs
        for rows, items, bank, other in (
            (u[n:], views.u_items[n:], self.left, self.right),
            (v[n:], views.v_items[n:], self.right, self.left),
        ):
            total = total + self._side(rows, items, bank, other, scale)
        return total * min(1.0, (step + 1) / max(self.warmup, 1))

    def _side(self, rows: Tensor, items: Tensor, bank: Bank, other: Bank, scale: Tensor | float) -> Tensor:
        """Mean cross-entropy over the rows that the plan knows."""
        place = bank.pool_place[items]
        known = bank.planned[place]
        rows, place = rows[known], place[known]
        if len(rows) == 0:
            return connected_zero(rows)
        columns = other.level.isfinite()
        logits = bank.mapped[place] @ other.mapped[columns].T / self.config.transport_epsilon
        targets = (logits + other.level[columns]).softmax(1)
        keys = other.pool_rows()[columns]
        return soft_cross_entropy(rows, keys.to(rows), scale, targets.to(rows)).mean()

    def _plan(self, step: int) -> None:
        sides = (self.left, self.right)
        for bank in sides:
            bank.renew()
        seen = [bank.pool_seen() for bank in sides]
        # Half of each pool is a fair sample of it; less would plan on the few first batches.
        if any(2 * int(known.sum()) < len(known) for known in seen):
            return
        chosen = [self._sample(known, step, number) for number, known in enumerate(seen)]
        mapped = self._mapped(chosen)
        plan = sinkhorn(
            mapped[0][chosen[0]],
            mapped[1][chosen[1]],
            epsilon=self.config.transport_epsilon,
            tol=1e-3,
            max_iter=200,
        )
        for bank, vectors, index, potential in zip(sides, mapped, chosen, (plan.f, plan.g), strict=True):
            bank.mapped.zero_()
            bank.mapped[:, : vectors.shape[1]] = vectors.to(bank.mapped)
            bank.planned.copy_(bank.pool_seen())
            bank.level.fill_(-torch.inf)
            bank.level[index] = (potential / plan.epsilon).to(bank.level)
        self.ready.fill_(True)

    def _sample(self, known: Tensor, step: int, side: int) -> Tensor:
        """Positions of the known items, or of some of them where they are too many for a plan."""
        index, limit = known.nonzero()[:, 0], self.config.transport_items
        if len(index) <= limit:
            return index
        rng = np.random.default_rng([self.seed, PLAN_SEED, side, step])
        kept = np.sort(rng.choice(len(index), limit, replace=False))
        return index[torch.from_numpy(kept).to(index.device)]

    def _mapped(self, chosen: list[Tensor]) -> list[Tensor]:
        """Unit rows of both pools in the space of the plan."""
        config, sides = self.config, (self.left, self.right)
        both = self.left.seen[self.left.pairs_at] & self.right.seen[self.right.pairs_at]
        if int(both.sum()) < 2:
            return [bank.pool_rows() for bank in sides]
        known = [_array(bank.rows[bank.pairs_at[both]]) for bank in sides]
        pools = [_array(bank.pool_rows()) for bank in sides]
        options = RefineOptions(
            dim=config.transport_dim,
            ridge=config.transport_ridge,
            epsilon=config.transport_epsilon,
            rounds=config.transport_rounds,
            tol=1e-3,
            max_iter=200,
            device=self.left.rows.device,
        )
        free = [pool[index.cpu().numpy()] for pool, index in zip(pools, chosen, strict=True)]
        maps = refine((known[0], known[1]), (free[0], free[1]), options).maps
        return [
            nn.functional.normalize(torch.from_numpy(rows).to(self.left.rows), dim=1, eps=1e-8)
            for rows in (maps.left(pools[0]), maps.right(pools[1]))
        ]


def frozen_vectors(model: TwoTower, sides: Sequence[Side]) -> tuple[Recompute | None, Recompute | None]:
    """For each side whose tower features are at hand: items -> present vectors [n, dim], without dropout."""

    def recompute(name: str, rows: Tensor, items: Indices) -> Tensor:
        head = model.heads[name]
        training = head.training
        head.eval()
        vectors = project_features(model, name, rows[torch.from_numpy(items)])
        head.train(training)
        return torch.from_numpy(vectors)

    left, right = (
        None if side.features is None else functools.partial(recompute, side.name, side.features)
        for side in sides
    )
    return left, right


def _array(rows: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = rows.double().cpu().numpy()
    return array
