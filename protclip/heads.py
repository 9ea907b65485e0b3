"""Projection heads: tower features [n, in_dim] -> shared space [n, dim], not yet normalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        self.inner = nn.Linear(in_dim, dim)
        self.outer = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        """Project features [n, in_dim] to [n, dim]."""
        hidden = self.inner(features)
        projected: Tensor = self.norm(hidden + self.dropout(self.outer(nn.functional.gelu(hidden))))
        return projected

    @torch.no_grad()
    def start_from(self, mean: Tensor, weight: Tensor) -> None:
        """Make the head begin as the linear map ``(x - mean) @ weight.T`` (up to LayerNorm).

        ``weight`` [k, in_dim] with k <= dim fills the first rows; the rest start at zero, and so does
        the second layer, which the residual path then leaves out of the first outputs.
        """
        self.inner.weight.zero_()
        self.inner.weight[: len(weight)] = weight
        self.inner.bias.copy_(-self.inner.weight @ mean)
        self.outer.weight.mul_(0.1)
        self.outer.bias.zero_()


class LinearHead(nn.Module):
    """Affine map ``(x - mean) @ weight.T``, for closed-form fits such as CCA."""

    kind = "linear"

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_dim))
        self.weight = nn.Parameter(torch.randn(dim, in_dim) / in_dim**0.5)
        self.mean: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Project features [n, in_dim] to [n, dim]."""
        return (features - self.mean) @ self.weight.T

    @torch.no_grad()
    def start_from(self, mean: Tensor, weight: Tensor) -> None:
        """Set the map; ``weight`` [k, in_dim] with k <= dim, rows beyond k are zero."""
        self.mean.copy_(mean)
        self.weight.zero_()
        self.weight[: len(weight)] = weight


HEADS: dict[str, type[MLPHead] | type[LinearHead]] = {"mlp": MLPHead, "linear": LinearHead}
