"""Projection heads: tower features [n, in_dim] -> shared space [n, dim], not yet normalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Centre and scale features by statistics of the training set; the identity until :meth:`fit`.

    Frozen towers give features of any location and scale; heads start better from standardised ones.
    """

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("std", torch.ones(in_dim))
        self.mean: Tensor
        self.std: Tensor

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Take mean and standard deviation of features [n, in_dim]; constant columns are only centred."""
        self.mean.copy_(features.mean(0))
        std = features.std(0, correction=0)
        self.std.copy_(torch.where(std > 1e-6 * std.max().clamp(min=1e-12), std, torch.ones_like(std)))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise features [n, in_dim]."""
        return (features - self.mean) / self.std


class MLPHead(nn.Module):
    """Linear, GELU, Linear, dropout, residual from the first Linear, LayerNorm.

    Parameters
    ----------
    in_dim, dim : int
        Width of the features and of the shared space.
    dropout : float
        Dropout on the second Linear's output.

    Notes
    -----
    The head of the published image-text experiments of Set-CLIP.
    """

    kind = "mlp"

    def __init__(self, in_dim: int, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.standardise = Standardise(in_dim)
        self.inner = nn.Linear(in_dim, dim)
        self.outer = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """Project features [n, in_dim] to [n, dim]."""
        hidden = self.inner(self.standardise(features))
        projected: Tensor = self.norm(hidden + self.dropout(self.outer(nn.functional.gelu(hidden))))
        return projected

    @torch.no_grad()
    def start_from(self, mean: Tensor, weight: Tensor) -> None:
        """Begin as the linear map ``(x - mean) @ weight.T`` of standardised x, up to LayerNorm.

        ``weight`` [k, in_dim] with k <= dim fills the first rows; the rest start at zero, and so does
        the second layer, which the residual path then leaves out of the first outputs.
        """
        self.inner.weight.zero_()
        self.inner.weight[: len(weight)] = weight
        self.inner.bias.copy_(-self.inner.weight @ mean)
        self.outer.weight.mul_(0.1)
        self.outer.bias.zero_()


class LinearHead(nn.Module):
    """Affine map of standardised features, for closed-form fits such as CCA."""

    kind = "linear"

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.standardise = Standardise(in_dim)
        self.linear = nn.Linear(in_dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """Project features [n, in_dim] to [n, dim]."""
        projected: Tensor = self.linear(self.standardise(features))
        return projected

    @torch.no_grad()
    def start_from(self, mean: Tensor, weight: Tensor) -> None:
        """Become ``(x - mean) @ weight.T`` of standardised x; rows beyond ``weight`` [k, in_dim] are zero."""
        self.linear.weight.zero_()
        self.linear.weight[: len(weight)] = weight
        self.linear.bias.copy_(-self.linear.weight @ mean)


HEADS: dict[str, type[MLPHead] | type[LinearHead]] = {"mlp": MLPHead, "linear": LinearHead}
