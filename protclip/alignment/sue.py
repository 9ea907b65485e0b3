"""SUE: spectral embedding of each side, CCA of the pairs, a residual network that lowers the discrepancy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from protclip.alignment.base import Alignment, Sets, unit
from protclip.alignment.cca import fit_cca
from protclip.typing import Matrix


class SUE(Alignment):
    """Spectral universal embedding.

    Each side is embedded by the leading eigenvectors of the random walk on its own graph of nearest
    neighbours (all rows, no pairs); CCA of the pairs turns both embeddings into one space; a residual network
    moves the left one so that its distribution meets the right one's. The paper learns the eigenvectors by a
    network; here they are exact, with Nystrom's extension for new rows.

    Parameters
    ----------
    eigenvectors : int
        Of each side.
    neighbours : int
        Of each row in the graph; weights are Gaussian, as wide as the median distance to the last of them.
    dim, ridge, power
        See :func:`protclip.alignment.fit_cca`.
    steps, batch_size, learning_rate
        Of the network (Adam); no steps leave it out.
    seed : int
        Of the network.
    standardise, components
        See :class:`protclip.alignment.TransportAlignment`.

    References
    ----------
    Yacobi et al., "Learning shared representations from unpaired data", NeurIPS 2025, arXiv 2505.21524.
    """

    def __init__(
        self,
        eigenvectors: int = 32,
        neighbours: int = 15,
        dim: int = 16,
        ridge: float = 0.1,
        power: float = 1.0,
        steps: int = 200,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        seed: int = 0,
        standardise: bool = True,
        components: int | None = 400,
    ) -> None:
        self.eigenvectors, self.neighbours = eigenvectors, neighbours
        self.dim, self.ridge, self.power = dim, ridge, power
        self.steps, self.batch_size, self.learning_rate, self.seed = steps, batch_size, learning_rate, seed
        self.standardise, self.components = standardise, components

    def _check(self) -> None:
        if self.steps != 0:
            super()._check()

    def _learn(self, sets: Sets) -> None:
        self.spectra_ = [Spectrum.of(rows, self.eigenvectors, self.neighbours) for rows in (sets.x, sets.y)]
        spans = [spectrum.vectors for spectrum in self.spectra_]
        self.maps_in_span_ = fit_cca(
            spans[0][sets.pairs[:, 0]],
            spans[1][sets.pairs[:, 1]],
            dim=self.dim,
            ridge=self.ridge,
            power=self.power,
        )
        left, right = unit(self.maps_in_span_.left(spans[0])), unit(self.maps_in_span_.right(spans[1]))
        self.residual_ = self._train(torch.from_numpy(left).float(), torch.from_numpy(right).float())

    def _train(self, left: Tensor, right: Tensor) -> Residual:
        generator = torch.Generator().manual_seed(self.seed)
        network = Residual(left.shape[1], generator)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        for _ in range(self.steps):
            rows = [
                side[torch.randperm(len(side), generator=generator)[: self.batch_size]]
                for side in (left, right)
            ]
            loss = discrepancy(network(rows[0]), rows[1])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return network.eval()

    def _map(self, rows: Matrix, side: int) -> Matrix:
        span = self.spectra_[side].extend(rows)
        if side:
            return self.maps_in_span_.right(span)
        mapped = torch.from_numpy(unit(self.maps_in_span_.left(span))).float()
        with torch.no_grad():
            return np.asarray(self.residual_(mapped).double().numpy())


class Residual(nn.Module):
    """x + W2 relu(W1 x), the identity at the start."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        with torch.no_grad():
            self.inner.weight.normal_(0, (2 / dim) ** 0.5, generator=generator)
            self.inner.bias.zero_()
            self.outer.weight.zero_()
            self.outer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Moved rows [n, dim]."""
        moved: Tensor = x + self.outer(torch.relu(self.inner(x)))
        return moved


def discrepancy(left: Tensor, right: Tensor) -> Tensor:
    """Squared maximum mean discrepancy (biased) under Gaussian kernels of 1/2, 1 and 2 median distances."""
    rows = torch.cat([left, right])
    squares = torch.cdist(rows, rows) ** 2
    middle = squares.detach().median().clamp(min=1e-12)
    kernel = sum((-squares / (2 * middle * f**2)).exp() for f in (0.5, 1.0, 2.0))
    sign = torch.cat(
        [left.new_full((len(left),), 1 / len(left)), left.new_full((len(right),), -1 / len(right))]
    )
    return torch.as_tensor(sign @ kernel @ sign)


class Spectrum(NamedTuple):
    """Leading eigenvectors of a random walk on nearest neighbours, and what extends them to new rows."""

    rows: Matrix
    vectors: Matrix
    values: Matrix
    width: float
    neighbours: int

    @classmethod
    def of(cls, rows: Matrix, count: int, neighbours: int) -> Spectrum:
        """Of rows [n, d]; the constant eigenvector is left out."""
        n = len(rows)
        neighbours, count = min(neighbours, n - 1), min(count, n - 2)
        squares = _squares(rows, rows)
        np.fill_diagonal(squares, np.inf)
        nearest = np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1]
        width = float(np.sqrt(np.median(nearest))) or 1.0
        kernel = np.where(squares <= nearest[:, None], np.exp(-squares / (2 * width**2)), 0.0)
        kernel = (kernel + kernel.T) / 2
        degree = np.maximum(kernel.sum(1), 1e-12)
        root = 1 / np.sqrt(degree)
        values, vectors = np.linalg.eigh(root[:, None] * kernel * root)
        values, vectors = values[::-1][1 : count + 1], vectors[:, ::-1][:, 1 : count + 1]
        # Columns of unit variance, as eigenvectors of the random walk.
        return cls(rows, vectors * root[:, None] * np.sqrt(degree.sum()), values, width, neighbours)

    def extend(self, rows: Matrix) -> Matrix:
        """Nystrom's extension: the mean of the neighbours' values, divided by the eigenvalue."""
        squares = _squares(rows, self.rows)
        nearest = np.partition(squares, self.neighbours - 1, axis=1)[:, self.neighbours - 1, None]
        # Relative to the nearest, so that a row far from all still has neighbours.
        gain = np.exp(-(squares - squares.min(1, keepdims=True)) / (2 * self.width**2))
        kernel = np.where(squares <= nearest, gain, 0.0)
        walk = kernel / kernel.sum(1, keepdims=True)
        return np.asarray(walk @ self.vectors / np.where(np.abs(self.values) > 0.05, self.values, 0.05))


def _squares(rows: Matrix, others: Matrix) -> Matrix:
    squares = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    return np.asarray(np.maximum(squares, 0))
