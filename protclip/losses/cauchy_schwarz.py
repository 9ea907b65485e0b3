"""Cauchy-Schwarz divergence between two sets of rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from protclip.config.checks import check_number
from protclip.losses.kernels import row_log_kernel_sums
from protclip.losses.pairwise import as_full, check_rows, connected_zero, in_full_precision


class CauchySchwarz(nn.Module):
    """How far two sets' kernel densities are from being proportional.

    The value is ``log mean k(u, u') + log mean k(v, v') - 2 log mean k(u, v)`` with ``k(x, y) =
    exp(-|x - y|^2 / (2 h^2))``, each mean over all pairs of rows, those of a row with itself included: the
    estimate of ``-log((int p q)^2 / (int p^2 int q^2))`` from Parzen densities (Yin et al., CS-Aligner, arXiv
    2502.17028).  By the Cauchy-Schwarz inequality it is never negative (beyond rounding); it is 0 for a set
    and a permutation of it.  Unlike the kernel distance it does not fade where the sets are far apart: it
    then grows as the squared distance over ``h^2``.

    Parameters
    ----------
    bandwidth : float
        The h of the kernel, in units of the rows' distance.
    block_size : int
        Rows in memory at once; 0 chooses.

    Raises
    ------
    ConfigError
        An option is out of range.

    Examples
    --------
    >>> u = torch.eye(4)
    >>> abs(float(CauchySchwarz()(u, u.flip(0)))) < 1e-6
    True
    >>> round(float(CauchySchwarz(bandwidth=0.5)(u[:1], -u[:1])), 4)  # |u - v|^2 / h^2
    16.0
    """

    def __init__(self, bandwidth: float = 1.0, *, block_size: int = 0) -> None:
        super().__init__()
        check_number("cs_bandwidth", bandwidth, above=True)
        check_number("block_size", block_size, integer=True)
        self.bandwidth, self.block_size = bandwidth, block_size

    @in_full_precision
    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Value for [n, d] and [m, d] rows; 0 where one set is empty.

        Raises
        ------
        ConfigError
            The widths differ.
        """
        check_rows(u, v)
        if len(u) == 0 or len(v) == 0:
            return connected_zero(u, v)
        u, v = as_full(u), as_full(v)
        return self._log_mean(u, u) + self._log_mean(v, v) - 2 * self._log_mean(u, v)

    def _log_mean(self, a: Tensor, b: Tensor) -> Tensor:
        width = math.sqrt(0.5) / self.bandwidth
        sums = row_log_kernel_sums(a, b, width, block_size=self.block_size)
        return torch.logsumexp(sums, 0) - math.log(len(a) * len(b))
