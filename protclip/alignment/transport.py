"""TransportAlignment: one space for two sets of ready embeddings, from a handful of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from protclip.alignment import cross_validation as selection
from protclip.alignment.cca import LinearMaps, fit_cca
from protclip.alignment.gromov import gromov_start
from protclip.alignment.prepare import Preparation
from protclip.alignment.refine import RefineOptions, refine
from protclip.alignment.validation import DTYPES, check_options, check_pairs, check_rows
from protclip.errors import ConfigError, DataError
from protclip.typing import Matrix

EPSILON = {"likelihood": 1.0, "cosine": 0.1}
"""Entropy of the plan where none is given, by its cost."""


class TransportAlignment(BaseEstimator):  # type: ignore[misc]
    """Linear maps of two sets of embeddings into one space, from few pairs and many unpaired rows.

    Parameters
    ----------
    dim : int
        Shared dimensions; fewer are returned where the features or (with ``cca``) the pairs do not carry
        them.
    ridge : float
        Added to each covariance, as a multiple of its mean eigenvalue.
    epsilon : float, optional
        Entropy of the transport plan, in units of its cost; by default 1 for ``likelihood`` and 0.1 for
        ``cosine``.
    weight : float
        Mass of all soft pairs of the plan together, where all given pairs together have mass 1.
    rounds : int
        Plans and fits in turn.
    unbalanced : float, optional
        Price of leaving an item unmatched, in units of the plan's cost, for pools that only partly overlap.
        None transports every item.
    power : float
        Directions are weighted by this power of their correlation; see :func:`fit_cca`.
    plan : {"likelihood", "cosine"}
        Cost of the plan: minus the log likelihood ratio of matched to unmatched under the present canonical
        correlations, or the cosine distance; see :func:`protclip.alignment.refine.refine`.
    start : {"pairs", "gromov"}
        Where the first plan is from: CCA of the pairs, or a Gromov-Wasserstein plan between samples of both
        sides, which needs no pairs at all. See :func:`protclip.alignment.gromov.gromov_start`.
    prior_width : float
        Difference of the side information, where :meth:`fit` gets some, at which an entry of the plan is
        multiplied by exp(-1/2).
    standardise : bool
        Divide each feature by its standard deviation over all rows of its side.
    components : int, optional
        Fit to so many principal components of each side at most: the others are mostly noise, and it is
        faster. None takes all.
    method : {"transport", "cca"}
        ``cca`` uses the pairs alone.
    select : bool
        Choose ridge, dim and weight by cross-validation over the pairs; see
        :data:`protclip.alignment.cross_validation.GRID`.
    folds : int
        Folds of that cross-validation.
    seed : int
        Of the folds and of the samples of large pools; nothing else is random.
    tol, max_iter, block
        Of :func:`protclip.alignment.sinkhorn.sinkhorn`.
    max_items : int
        Rows of each pool in one plan; of larger pools each round's plan sees another sample.
    device : str
        Torch device of the plan.
    dtype : {"float32", "float64"}
        Of the plan; the fits are always float64.

    Attributes
    ----------
    maps_ : LinearMaps
        Of the standardised features.
    left_mean_, left_scale_, right_mean_, right_scale_ : float64 arrays [d]
        Standardisation of both sides.
    confidence_left_, confidence_right_ : float64 arrays [n], [m]
        1 for rows of the given pairs; for the others 1 - H / log(candidates), with H the entropy of the row
        of the last plan; NaN where there was no plan, and for rows outside its sample.
    history_ : list of dict
        One entry per round; see :class:`protclip.alignment.refine.Refined`.
    best_params_, cv_results_ : dict, list of dict
        With ``select``: the choice, and every setting with its score.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(200, 6)) ** 3
    >>> x, y = z @ rng.normal(size=(6, 12)), z @ rng.normal(size=(6, 9))
    >>> model = TransportAlignment(dim=6, ridge=0.1).fit(x, y, [(i, i) for i in range(20)])
    >>> left, right = model.transform_left(x), model.transform_right(y)
    >>> left.shape, bool(((left @ right.T).argmax(1) == np.arange(200)).mean() > 0.5)
    ((200, 6), True)
    """

    def __init__(
        self,
        dim: int = 64,
        ridge: float = 3.0,
        epsilon: float | None = None,
        weight: float = 1.0,
        rounds: int = 8,
        unbalanced: float | None = None,
        standardise: bool = True,
        method: str = "transport",
        *,
        components: int | None = 400,
        power: float = 1.0,
        plan: str = "likelihood",
        start: str = "pairs",
        prior_width: float = 0.05,
        select: bool = False,
        folds: int = 5,
        seed: int = 0,
        tol: float = 1e-4,
        max_iter: int = 1000,
        max_items: int = 20_000,
        block: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.dim = dim
        self.ridge = ridge
        self.epsilon = epsilon
        self.weight = weight
        self.rounds = rounds
        self.unbalanced = unbalanced
        self.standardise = standardise
        self.method = method
        self.components = components
        self.power = power
        self.plan = plan
        self.start = start
        self.prior_width = prior_width
        self.select = select
        self.folds = folds
        self.seed = seed
        self.tol = tol
        self.max_iter = max_iter
        self.max_items = max_items
        self.block = block
        self.device = device
        self.dtype = dtype

    def fit(
        self,
        X: ArrayLike,
        Y: ArrayLike,
        pairs: ArrayLike,
        prior: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> TransportAlignment:
        """Fit both maps.

        Parameters
        ----------
        X, Y : float arrays [n, d_left], [m, d_right]
            All rows of both sides.
        pairs : int array [p, 2]
            Rows of X and Y that belong together; all other rows are the unpaired pools. A row is in one pair
            at most.
        prior : pair of float arrays [n] and [m], or [n, q] and [m, q], optional
            Side information of all rows that partners share up to about ``prior_width``, such as the log of
            their lengths. The plan then matches like with like in it: say so where results are shown.

        Raises
        ------
        ConfigError
            With fewer than two pairs, or an option out of range.
        DataError
            If shapes do not fit, a value is not finite, or a pair names a row that is not there or taken.
        """
        check_options(self.get_params())
        x, y = check_rows(X, "X"), check_rows(Y, "Y")
        index = check_pairs(pairs, len(x), len(y), least=0 if self.start == "gromov" else 2)
        if self.select:
            self.best_params_, self.cv_results_ = selection.choose(self, x, y, index)
        chosen = {**self.get_params(), **(self.best_params_ if self.select else {})}
        sides = [
            Preparation.of(rows, standardise=self.standardise, components=self.components) for rows in (x, y)
        ]
        self.left_mean_, self.left_scale_ = sides[0].mean, sides[0].scale
        self.right_mean_, self.right_scale_ = sides[1].mean, sides[1].scale
        found = self._fit(sides[0](x), sides[1](y), index, chosen, self._prior(prior, len(x), len(y)))
        self.maps_: LinearMaps = LinearMaps(
            *sides[0].unfold(found.left_mean, found.left_weight),
            *sides[1].unfold(found.right_mean, found.right_weight),
            found.correlations,
        )
        return self

    def _prior(self, prior: tuple[ArrayLike, ArrayLike] | None, n: int, m: int) -> list[Matrix] | None:
        self.prior_ = prior is not None
        if prior is None:
            return None
        sides = [np.asarray(side, np.float64) for side in prior]
        sides = [check_rows(side[:, None] if side.ndim == 1 else side, "prior") for side in sides]
        if (len(sides[0]), len(sides[1])) != (n, m) or sides[0].shape[1] != sides[1].shape[1]:
            raise DataError(
                "side information does not fit the rows",
                where="prior",
                got=f"{list(sides[0].shape)} and {list(sides[1].shape)}",
                expected=f"[{n}, q] and [{m}, q]",
            )
        return [side / self.prior_width for side in sides]

    def _fit(
        self,
        x: Matrix,
        y: Matrix,
        index: NDArray[np.int64],
        chosen: dict[str, Any],
        prior: list[Matrix] | None,
    ) -> LinearMaps:
        free = np.delete(np.arange(len(x)), index[:, 0]), np.delete(np.arange(len(y)), index[:, 1])
        pairs = x[index[:, 0]], y[index[:, 1]]
        self.history_: list[dict[str, float]] = []
        self.confidence_left_, self.confidence_right_ = np.full(len(x), np.nan), np.full(len(y), np.nan)
        self.confidence_left_[index[:, 0]] = self.confidence_right_[index[:, 1]] = 1.0
        if self.method == "cca" or not len(free[0]) or not len(free[1]):
            return fit_cca(*pairs, dim=chosen["dim"], ridge=chosen["ridge"], power=self.power)
        options = RefineOptions(
            **{k: chosen[k] for k in ("dim", "ridge", "weight", "rounds", "unbalanced", "power", "plan")},
            epsilon=EPSILON[self.plan] if self.epsilon is None else self.epsilon,
            **{k: chosen[k] for k in ("tol", "max_iter", "max_items", "seed", "block")},
            device=torch.device(self.device),
            dtype=DTYPES[self.dtype],
        )
        beside = None if prior is None else (prior[0][free[0]], prior[1][free[1]])
        start = None
        if self.start == "gromov":
            start = gromov_start(
                x, y, dim=chosen["dim"], ridge=chosen["ridge"], power=self.power, seed=self.seed
            )
        found = refine(pairs, (x[free[0]], y[free[1]]), options, start=start, prior=beside)
        self.history_ = found.history
        self.confidence_left_[free[0]] = found.confidence_left
        self.confidence_right_[free[1]] = found.confidence_right
        return found.maps

    def transform_left(self, X: ArrayLike) -> NDArray[np.float32]:
        """Unit rows [n, k] in the shared space of left rows [n, d_left]."""
        return _unit(self._maps().left(self._left(check_rows(X, "X", len(self.left_mean_)))))

    def transform_right(self, Y: ArrayLike) -> NDArray[np.float32]:
        """Unit rows [m, k] in the shared space of right rows [m, d_right]."""
        return _unit(self._maps().right(self._right(check_rows(Y, "Y", len(self.right_mean_)))))

    def with_chosen(self) -> TransportAlignment:
        """An unfitted copy that has the settings which ``select`` chose, if it did."""
        copy: TransportAlignment = clone(self).set_params(**getattr(self, "best_params_", {}), select=False)
        return copy

    def _maps(self) -> LinearMaps:
        if not hasattr(self, "maps_"):
            raise ConfigError("not fitted yet", where=type(self).__name__, hint="Call fit(X, Y, pairs) first")
        return self.maps_

    def _left(self, x: Matrix) -> Matrix:
        return np.asarray((x - self.left_mean_) / self.left_scale_)

    def _right(self, y: Matrix) -> Matrix:
        return np.asarray((y - self.right_mean_) / self.right_scale_)


def _unit(rows: Matrix) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-8), np.float32)
