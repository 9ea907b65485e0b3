"""Spread over seeds, and paired comparisons of two arms that ran with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from protclip.errors import DataError
from protclip.typing import Doubles

EXACT_UP_TO = 16
"""Pairs up to which every pattern of signs is counted; above, patterns are drawn."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of one number over seeds; the deviation of one seed is NaN."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Comparison:
    """Paired difference of an arm to its baseline, seed by seed.

    Attributes
    ----------
    n : int
        Seeds that both have.
    difference, sd : float
        Mean and standard deviation of the differences.
    low, high : float
        Confidence interval of the mean by Student's t; NaN for a single seed.
    p_t : float
        Two-sided p of the paired t-test; NaN for a single seed.
    p_flip : float
        Two-sided p of the sign-flip permutation test.
    smallest_p : float
        The least that ``p_flip`` can be with so many seeds: ``2 / 2**n``.
    """

    n: int
    difference: float
    sd: float
    low: float
    high: float
    p_t: float
    p_flip: float
    smallest_p: float


@dataclass(frozen=True)
class Interval:
    """Bootstrap interval of a mean difference over queries, and its two-sided p."""

    low: float
    high: float
    p: float


def spread(values: ArrayLike) -> Spread:
    """Mean and standard deviation.

    Raises
    ------
    DataError
        If there is no value.

    Examples
    --------
    >>> spread([1.0, 2.0, 3.0])
    Spread(n=3, mean=2.0, sd=1.0)
    """
    numbers = _numbers(values)
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return Spread(len(numbers), float(numbers.mean()), sd)


def compare(arm: ArrayLike, baseline: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two arms whose values at one position come from one seed.

    Parameters
    ----------
    arm, baseline : array_like of float, shape (n,)
    confidence : float
        Of the interval.
    seed : int
        For the patterns of signs that are drawn beyond :data:`EXACT_UP_TO` pairs.

    Raises
    ------
    DataError
        If the lengths differ or there is no value.

    Examples
    --------
    >>> found = compare([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    >>> found.difference, found.p_flip, found.smallest_p
    (2.0, 0.25, 0.25)
    """
    from scipy import stats  # kept out of start-up

    a, b = _numbers(arm), _numbers(baseline)
    if a.shape != b.shape:
        raise DataError("values are not paired", got=f"{len(a)} and {len(b)}")
    differences = a - b
    n, mean = len(differences), float(differences.mean())
    sd = float(differences.std(ddof=1)) if n > 1 else math.nan
    low = high = p_t = math.nan
    if n > 1:
        error = sd / math.sqrt(n)
        half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
        low, high = mean - half, mean + half
        size = abs(mean) / error if error > 0 else math.inf if mean else 0.0
        p_t = float(2 * stats.t.sf(size, n - 1))
    return Comparison(n, mean, sd, low, high, p_t, sign_flip_p(differences, seed=seed), min(1.0, 2.0 / 2**n))


def sign_flip_p(differences: ArrayLike, *, draws: int = 100_000, seed: int = 0) -> float:
    """Two-sided p of the mean under random signs: how often a mean is as far from 0 as the one observed.

    Exact over all 2^n patterns up to :data:`EXACT_UP_TO` differences; else by ``draws`` random patterns, the
    observed one among them. It assumes only that the differences are symmetric about 0 where the
    arms are equal.

    Examples
    --------
    >>> sign_flip_p([1.0, 2.0, 3.0])
    0.25
    """
    values = _numbers(differences)
    n = len(values)
    observed = abs(values.sum())
    # Two ways to add up one sum can differ in the last bits.
    reach = observed - 1e-12 * max(1.0, float(np.abs(values).sum()))
    if n <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= reach).mean())
    rng = np.random.default_rng(seed)
    hits, left = 1, draws
    while left:
        size = min(left, 10_000)
        hits += int((np.abs(rng.choice([-1.0, 1.0], (size, n)) @ values) >= reach).sum())
        left -= size
    return hits / (draws + 1)


def bootstrap(
    differences: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean of per-query differences, whole groups of queries drawn together.

    Parameters
    ----------
    differences : array_like of float, shape (n,)
        Of one query each, already averaged over the seeds.
    groups : sequence of str, length n, optional
        Queries of one group (a superfamily) are not independent; an empty name is a group of its own.

    Examples
    --------
    >>> found = bootstrap([1.0] * 20 + [0.0] * 20)
    >>> 0.3 < found.low < 0.5 < found.high < 0.7
    True
    """
    values = _numbers(differences)
    names = [name or f"\0{i}" for i, name in enumerate(groups or [""] * len(values))]
    _, members = np.unique(names, return_inverse=True)
    sums, sizes = np.bincount(members, values), np.bincount(members)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):
        weights = np.bincount(rng.integers(len(sums), size=len(sums)), minlength=len(sums))
        means[i] = weights @ sums / (weights @ sizes)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Interval(float(low), float(high), min(1.0, 2 * (tail + 1) / (draws + 1)))


def _numbers(values: ArrayLike) -> Doubles:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise DataError("a list of numbers is needed", got=f"shape {numbers.shape}")
    return numbers
