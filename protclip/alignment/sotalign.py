"""SOTAlign: linear teacher from the pairs, optimal-transport divergence on the unpaired rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from protclip.alignment.base import LinearAlignment, Sets
from protclip.alignment.cca import LinearMaps, fit_cca
from protclip.alignment.sinkhorn import sinkhorn
from protclip.typing import Matrix


class SOTAlign(LinearAlignment):
    """Linear maps that keep the transport plan of a linear teacher while they learn the pairs by contrast.

    The teacher is CCA of the pairs. In each step a batch of unpaired rows of both sides is drawn; the loss
    is InfoNCE of the pairs plus ``weight`` times KL(P | Q) of the entropic plans of teacher and student
    between them. The gradient of that divergence is (Q - P) / epsilon with respect to the similarities, so
    that no plan is differentiated. Written from the paper's description; optimiser and batch sizes are ours.

    Parameters
    ----------
    dim, ridge, power
        Of the teacher; see :func:`protclip.alignment.fit_cca`.
    weight : float
        Of the divergence.
    epsilon : float
        Entropy of both plans, in units of the cosine distance.
    temperature : float
        Of InfoNCE.
    steps, batch_size, learning_rate
        Of Adam.
    seed : int
        Of the batches.
    standardise, components
        See :class:`protclip.alignment.TransportAlignment`.

    References
    ----------
    Roschmann et al., "SOTAlign: semi-supervised alignment of unimodal vision and language models via optimal
    transport", 2026, arXiv 2602.23353.
    """

    def __init__(
        self,
        dim: int = 64,
        ridge: float = 3.0,
        power: float = 1.0,
        weight: float = 1.0,
        epsilon: float = 0.05,
        temperature: float = 0.1,
        steps: int = 200,
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        seed: int = 0,
        standardise: bool = True,
        components: int | None = 400,
    ) -> None:
        self.dim, self.ridge, self.power = dim, ridge, power
        self.weight, self.epsilon, self.temperature = weight, epsilon, temperature
        self.steps, self.batch_size, self.learning_rate, self.seed = steps, batch_size, learning_rate, seed
        self.standardise, self.components = standardise, components

    def _fit_maps(self, sets: Sets) -> LinearMaps:
        known = sets.x[sets.pairs[:, 0]], sets.y[sets.pairs[:, 1]]
        teacher = fit_cca(*known, dim=self.dim, ridge=self.ridge, power=self.power)
        means = teacher.left_mean, teacher.right_mean
        scales = [
            _scale(weight, rows)
            for weight, rows in (
                (teacher.left_weight, sets.x - means[0]),
                (teacher.right_weight, sets.y - means[1]),
            )
        ]
        weights = [
            nn.Parameter(torch.from_numpy(w / s).float())
            for w, s in zip((teacher.left_weight, teacher.right_weight), scales, strict=True)
        ]
        fixed = [w.detach().clone() for w in weights]
        pairs = [torch.from_numpy(rows - mean).float() for rows, mean in zip(known, means, strict=True)]
        pools = [
            torch.from_numpy(rows[free] - mean).float()
            for rows, free, mean in zip(
                (sets.x, sets.y), (sets.free_left, sets.free_right), means, strict=True
            )
        ]
        rng = np.random.default_rng(self.seed)
        optimizer = torch.optim.Adam(weights, lr=self.learning_rate)
        for _ in range(self.steps):
            chosen = rng.permutation(len(pairs[0]))[: self.batch_size]
            loss = self._contrast(
                *(_unit(rows[chosen] @ w.T) for rows, w in zip(pairs, weights, strict=True))
            )
            if len(pools[0]) and len(pools[1]):
                rows = [pool[rng.permutation(len(pool))[: self.batch_size]] for pool in pools]
                with torch.no_grad():
                    target = self._plan(*(_unit(r @ w.T) for r, w in zip(rows, fixed, strict=True)))
                left, right = (_unit(r @ w.T) for r, w in zip(rows, weights, strict=True))
                with torch.no_grad():
                    push = (self._plan(left, right) - target) / self.epsilon
                loss = loss + self.weight * (push * (left @ right.T)).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        final = [w.detach().double().numpy() for w in weights]
        return LinearMaps(means[0], final[0], means[1], final[1], teacher.correlations)

    def _contrast(self, left: Tensor, right: Tensor) -> Tensor:
        logits = left @ right.T / self.temperature
        own = torch.arange(len(left))
        return (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)) / 2

    def _plan(self, left: Tensor, right: Tensor) -> Tensor:
        return sinkhorn(left, right, epsilon=self.epsilon, tol=1e-3, max_iter=200).dense()


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=1, eps=1e-8)


def _scale(weight: Matrix, rows: Matrix) -> float:
    """Root mean square length of mapped rows, so that Adam's steps mean the same on both sides."""
    return float(np.sqrt(((rows @ weight.T) ** 2).sum(1).mean())) or 1.0
