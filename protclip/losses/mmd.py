"""Multi-kernel maximum mean discrepancy between two sets of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from protclip.config.checks import check_choice, check_number, check_numbers
from protclip.config.loss import BandwidthMode, Estimator, KernelWeights
from protclip.errors import ConfigError
from protclip.losses.kernels import polynomial, row_kernel_means, squared_distances
from protclip.losses.pairwise import as_full, check_rows, connected_zero, in_full_precision

MEDIAN_ROWS = 1024
MIN_BANDWIDTH = 1e-6


class MKMMD(nn.Module):
    """Squared distance of two sets' kernel means, over a mixture of Gaussian and polynomial kernels.

    The value is ``mean k(u, u') + mean k(v, v') - 2 mean k(u, v)`` with ``k = sum_r beta_r k_r``; the base
    kernels are ``exp(-d^2 / b)`` and ``((a x.y + c) / (a + c))^p``, each of which is 1 at a unit row
    and itself.

    Parameters
    ----------
    bandwidths : sequence of float
        One Gaussian kernel each.
    bandwidth_mode : {"fixed", "median"}
        Bandwidths as they are, or times the median squared distance between different rows of the
        pooled sets (of 1,024 evenly spaced rows where there are more), held constant in the gradient.
    degrees : sequence of int
        One polynomial kernel each.
    slope, offset : float
        The a and c of the polynomial kernels.
    weights : {"uniform", "learned"}
        The mixture beta: equal shares, or the one that maximises the value over its standard
        deviation, held constant in the gradient (otherwise descent would slide to the kernel that tells the
        sets apart least).
    estimator : {"biased", "unbiased"}
        Keep a row's kernel with itself, or leave it out (the value may then be negative; a set of one row
        keeps it, having nothing else).
    block_size : int
        Rows in memory at once; 0 chooses.

    Raises
    ------
    ConfigError
        An option is out of range, or no kernel is left.

    Examples
    --------
    >>> u = torch.eye(4)
    >>> mmd = MKMMD(bandwidths=[1.0], degrees=[2])
    >>> abs(float(mmd(u, u.flip(0)))) < 1e-6, float(mmd(u, -u)) > 0
    (True, True)
    """

    def __init__(
        self,
        *,
        bandwidths: Sequence[float] = (1.0,),
        bandwidth_mode: BandwidthMode = "fixed",
        degrees: Sequence[int] = (),
        slope: float = 1.0,
        offset: float = 1.0,
        weights: KernelWeights = "uniform",
        estimator: Estimator = "biased",
        block_size: int = 0,
    ) -> None:
        super().__init__()
        check_numbers("mmd_bandwidths", bandwidths)
        check_numbers("mmd_degrees", degrees, integer=True)
        if not bandwidths and not degrees:
            raise ConfigError(
                "no kernel is left", where="mmd_bandwidths, mmd_degrees", expected="at least one"
            )
        check_number("mmd_slope", slope, above=True)
        check_number("mmd_offset", offset)
        check_choice("mmd_bandwidth_mode", bandwidth_mode, get_args(BandwidthMode))
        check_choice("mmd_weights", weights, get_args(KernelWeights))
        check_choice("mmd_estimator", estimator, get_args(Estimator))
        check_number("block_size", block_size, integer=True)
        self.bandwidths, self.bandwidth_mode, self.degrees = tuple(bandwidths), bandwidth_mode, tuple(degrees)
        self.slope, self.offset, self.weights, self.estimator = slope, offset, weights, estimator
        self.block_size = block_size

    @in_full_precision
    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Value for [n, d] and [m, d] unit rows; 0 where one set is empty.

        Raises
        ------
        ConfigError
            The widths differ.
        """
        check_rows(u, v)
        if len(u) == 0 or len(v) == 0:
            return connected_zero(u, v)
        u, v = as_full(u), as_full(v)
        widths = self._widths(u, v)
        within_u, within_v = self._own_means(u, widths), self._own_means(v, widths)
        across = self._means(u, v, widths)
        value = within_u.mean(1) + within_v.mean(1) - 2 * across.mean(1)
        if self.weights == "uniform" or len(value) == 1:
            return value.mean()
        with torch.no_grad():
            witness_u = within_u - across
            witness_v = within_v - self._means(v, u, widths)
            beta = best_mixture(value, witness_u, witness_v)
        return (beta * value).sum()

    def _widths(self, u: Tensor, v: Tensor) -> Tensor:
        # A tensor also where it is fixed: a median that stays on the GPU makes nobody wait for it.
        widths = u.new_tensor(self.bandwidths)
        return median_squared_distance(u, v) * widths if self.bandwidth_mode == "median" else widths

    def _own_means(self, rows: Tensor, widths: Tensor) -> Tensor:
        means = self._means(rows, rows, widths)
        count = len(rows)
        if self.estimator == "biased" or count == 1:
            return means
        norms = rows.square().sum(1)
        itself = [torch.ones_like(norms) for _ in self.bandwidths]
        itself += [polynomial(norms, degree, self.slope, self.offset) for degree in self.degrees]
        return (means * count - torch.stack(itself)) / (count - 1)

    def _means(self, a: Tensor, b: Tensor, widths: Tensor) -> Tensor:
        return row_kernel_means(
            a, b, widths, self.degrees, slope=self.slope, offset=self.offset, block_size=self.block_size
        )


@torch.no_grad()
def median_squared_distance(u: Tensor, v: Tensor) -> Tensor:
    """Median squared distance between different rows of the pooled sets, a scalar without gradient."""
    pooled = torch.cat([u, v])
    if len(pooled) > MEDIAN_ROWS:
        pooled = pooled[torch.linspace(0, len(pooled) - 1, MEDIAN_ROWS, device=u.device).long()]
    pooled = pooled - pooled.mean(0)
    upper = torch.ones(len(pooled), len(pooled), dtype=torch.bool, device=u.device).triu(1)
    return squared_distances(pooled, pooled)[upper].median().clamp_min(MIN_BANDWIDTH)


def best_mixture(value: Tensor, witness_u: Tensor, witness_v: Tensor) -> Tensor:
    """Kernel weights that maximise the mixture's value over its standard deviation.

    Parameters
    ----------
    value : Tensor
        [kernels] squared discrepancy of each kernel.
    witness_u, witness_v : Tensor
        [kernels, n] and [kernels, m] difference of the mean kernel to the own and to the other set at each
        row; to first order the variance of a mixture is ``4 / n Cov(witness_u) + 4 / m
        Cov(witness_v)``.

    Returns
    -------
    Tensor
        [kernels], on the simplex; uniform where no kernel tells the sets apart.

    Examples
    --------
    >>> noise = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    >>> best_mixture(torch.tensor([0.0, 1.0]), noise, noise).round(decimals=6).tolist()
    [0.0, 1.0]
    """
    from scipy.optimize import nnls  # heavy, and needed for this option alone

    kernels = len(value)
    uniform = torch.full_like(value, 1 / kernels)
    gain = value.detach().double().cpu().numpy()
    spread = np.zeros((kernels, kernels))
    for witness in (witness_u, witness_v):
        table = witness.detach().double().cpu().numpy()
        spread += 4 / table.shape[1] * np.atleast_2d(np.cov(table, bias=True))
    usable = np.isfinite(gain).all() and np.isfinite(spread).all()
    # A value at the level of rounding is no evidence for any kernel.
    if not usable or gain.max() <= 1e-7:
        return uniform
    ridge = 1e-3 * np.trace(spread) / kernels + 1e-12
    # The best ratio over non-negative weights lies along the minimiser of b'Qb / 2 - g'b with b >= 0, a
    # non-negative least-squares problem in the Cholesky factor of Q.
    factor = np.linalg.cholesky(spread + ridge * np.eye(kernels))
    solution, _ = nnls(factor.T, np.linalg.solve(factor, gain))
    return torch.as_tensor(solution / solution.sum()).to(value)
