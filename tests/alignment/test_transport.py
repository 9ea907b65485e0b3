"""OT-EM against a written-out weighted CCA, its toy problem, and the estimator's contract."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from protclip.alignment import TransportAlignment, fit_cca
from protclip.alignment.cca import whitener
from protclip.alignment.cross_validation import choose, cross_validate, folds, rank_pairs
from protclip.alignment.refine import RefineOptions, refine
from protclip.errors import ConfigError, DataError

Arrays = tuple[np.ndarray, np.ndarray]


def toy(n: int = 700, seed: int = 0, noise: float = 1.0) -> Arrays:
    """Two linear views of heavy-tailed common factors: the pools have a shape that a plan can match."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 6)) ** 3
    x = z @ rng.normal(size=(6, 30)) + noise * rng.normal(size=(n, 30)) + 3
    y = z @ rng.normal(size=(6, 20)) + noise * rng.normal(size=(n, 20)) - 1
    return x, y


def identity(n: int) -> np.ndarray:
    return np.stack([np.arange(n)] * 2, 1)


def median_rank(model: TransportAlignment, x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    scores = rank_pairs(
        model.transform_left(x), model.transform_right(y), identity(n), (np.empty(0, int), np.empty(0, int))
    )
    return float(np.median(scores.ranks))


@pytest.mark.parametrize(("pools", "most"), [("shuffled", 1000), ("disjoint", 1000), ("shuffled", 300)])
def test_unpaired_rows_help_where_pairs_are_few(pools: str, most: int) -> None:
    """On rows that no fit saw; without partners in the other pool as well, and from samples of the pools."""
    x, y = toy()
    if pools == "shuffled":
        left, right = x[:400], np.concatenate([y[:8], y[8:400][::-1]])
    else:
        left, right = x[:204], np.concatenate([y[:8], y[204:400]])
    # Cubes have tails far from the likelihood plan's Gaussian; all factors are equally strong: power 1/2.
    cca = TransportAlignment(dim=6, method="cca", power=0.5).fit(left, right, identity(8))
    transport = TransportAlignment(dim=6, plan="cosine", power=0.5, max_items=most)
    transport.fit(left, right, identity(8))
    ranks = median_rank(cca, x[400:], y[400:]), median_rank(transport, x[400:], y[400:])
    assert ranks[1] < 0.7 * ranks[0], ranks


def test_cca_is_fit_cca_of_the_standardised_pairs() -> None:
    x, y = toy(60)
    model = TransportAlignment(dim=4, method="cca").fit(x, y, identity(20))
    maps = fit_cca(
        ((x - x.mean(0)) / x.std(0))[:20], ((y - y.mean(0)) / y.std(0))[:20], dim=4, ridge=3.0, power=1.0
    )
    left = maps.left((x - x.mean(0)) / x.std(0))
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    np.testing.assert_allclose(model.transform_left(x), left, atol=1e-6)
    assert model.history_ == []
    assert np.isnan(model.confidence_left_[20:]).all()
    assert (model.confidence_left_[:20] == 1).all()


def slow_refine(pairs: Arrays, free: Arrays, o: RefineOptions) -> tuple[np.ndarray, np.ndarray]:
    """The definition in its own words: every soft pair is a weighted pair of rows. Similarities and plan."""
    n, m = len(free[0]), len(free[1])

    def whole_sinkhorn(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        kernel = np.exp((u @ v.T - 1) / o.epsilon)
        a, b = np.ones(n), np.ones(m)
        power = 1.0 if o.unbalanced is None else o.unbalanced / (o.unbalanced + o.epsilon)
        for _ in range(3000):
            a = (1 / (kernel @ (b / m))) ** power
            b = (1 / (kernel.T @ (a / n))) ** power
        return a[:, None] * kernel * b / (n * m)

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def inverse_root(s: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(s + o.ridge * np.trace(s) / len(s) * np.eye(len(s)))
        return vectors @ np.diag(values**-0.5) @ vectors.T

    maps = fit_cca(*pairs, dim=o.dim, ridge=o.ridge)
    left, right = maps.left(free[0]), maps.right(free[1])
    for _ in range(o.rounds):
        plan = whole_sinkhorn(unit(left), unit(right))
        i, j = np.indices(plan.shape).reshape(2, -1)
        x, y = np.concatenate([pairs[0], free[0][i]]), np.concatenate([pairs[1], free[1][j]])
        w = np.concatenate([np.full(len(pairs[0]), 1 / len(pairs[0])), o.weight * plan.ravel()])
        w /= w.sum()
        mx, my = w @ x, w @ y
        xc, yc = x - mx, y - my
        hx, hy = inverse_root((w[:, None] * xc).T @ xc), inverse_root((w[:, None] * yc).T @ yc)
        u, rho, vt = np.linalg.svd(hx @ ((w[:, None] * xc).T @ yc) @ hy)
        k, root = o.dim, np.sqrt(rho[: o.dim])
        left = (free[0] - mx) @ hx @ u[:, :k] * root
        right = (free[1] - my) @ hy @ vt[:k].T * root
    return left @ right.T, plan


@pytest.mark.parametrize("unbalanced", [None, 0.3])
@pytest.mark.parametrize("weight", [0.5, 4.0])
@pytest.mark.parametrize("block", [None, 5])
def test_equals_the_written_out_definition(
    unbalanced: float | None, weight: float, block: int | None
) -> None:
    x, y = toy(50, seed=3)
    pairs, free = (x[:9], y[:9]), (x[9:40], y[15:50])
    options = RefineOptions(
        dim=3,
        ridge=0.5,
        weight=weight,
        rounds=3,
        unbalanced=unbalanced,
        tol=1e-11,
        max_iter=5000,
        block=block,
        dtype=torch.float64,
    )
    found = refine(pairs, free, options)
    similarity, plan = slow_refine(pairs, free, options)
    mine = found.maps.left(free[0]) @ found.maps.right(free[1]).T
    np.testing.assert_allclose(mine, similarity, atol=1e-6 * np.abs(similarity).max())
    q = plan / plan.sum(1, keepdims=True)
    expected = 1 + (q * np.log(np.maximum(q, 1e-300))).sum(1) / np.log(q.shape[1])
    np.testing.assert_allclose(found.confidence_left, expected, atol=1e-6)
    assert found.history[-1]["mass"] == pytest.approx(plan.sum(), rel=1e-6)


@pytest.mark.slow
def test_block_sizes_do_not_change_the_result() -> None:
    x, y = toy(200)
    whole = TransportAlignment(dim=6, rounds=3, dtype="float64", tol=1e-9).fit(x, y, identity(10))
    parts = clone(whole).set_params(block=17).fit(x, y, identity(10))
    np.testing.assert_allclose(
        whole.transform_left(x) @ whole.transform_right(y).T,
        parts.transform_left(x) @ parts.transform_right(y).T,
        atol=1e-5,
    )


def test_large_pools_are_sampled_anew_for_each_plan() -> None:
    x, y = toy(300)
    model = TransportAlignment(dim=6, rounds=3, max_items=100, seed=1).fit(x, y, identity(10))
    for confidence in (model.confidence_left_, model.confidence_right_):
        known = np.isfinite(confidence[10:])
        assert known.sum() == 100
    # Other items in each round: the cross-moment keeps moving where that of whole pools settles.
    whole = TransportAlignment(dim=6, rounds=3).fit(x, y, identity(10))
    assert model.history_[-1]["change"] > whole.history_[-1]["change"]
    again = clone(model).fit(x, y, identity(10))
    np.testing.assert_array_equal(model.transform_left(x), again.transform_left(x))
    other = clone(model).set_params(seed=2).fit(x, y, identity(10))
    assert np.abs(other.transform_left(x) - model.transform_left(x)).max() > 1e-3


def test_a_sample_of_all_items_changes_nothing() -> None:
    x, y = toy(80)
    one = TransportAlignment(dim=5, rounds=2, max_items=70).fit(x, y, identity(10))
    two = TransportAlignment(dim=5, rounds=2).fit(x, y, identity(10))
    np.testing.assert_array_equal(one.transform_left(x), two.transform_left(x))


def test_same_input_same_result_and_pickles() -> None:
    x, y = toy(120)
    one, two = (TransportAlignment(dim=5, rounds=3).fit(x, y, identity(9)) for _ in range(2))
    np.testing.assert_array_equal(one.transform_left(x), two.transform_left(x))
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(one.transform_right(y), again.transform_right(y))
    assert one.get_params() == again.get_params()


def test_order_and_place_of_the_pairs_do_not_matter() -> None:
    x, y = toy(150)
    pairs = np.array([[3, 90], [77, 4], [8, 8], [140, 21], [60, 61], [12, 0]])
    y = y.copy()
    y[pairs[:, 1]] = x[pairs[:, 0]][:, :20]
    one = TransportAlignment(dim=4, rounds=2).fit(x, y, pairs)
    two = TransportAlignment(dim=4, rounds=2).fit(x, y, pairs[::-1])
    a, b = (m.transform_left(x) @ m.transform_right(y).T for m in (one, two))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_what_is_known_after_the_fit() -> None:
    x, y = toy(100)
    model = TransportAlignment(dim=5, rounds=4).fit(x, y[:90], identity(10))
    assert model.transform_left(x).shape == (100, 5)
    assert model.transform_left(x).dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(model.transform_right(y), axis=1), 1, atol=1e-6)
    assert [h["round"] for h in model.history_] == [1, 2, 3, 4]
    assert all(h["converged"] and h["mass"] == pytest.approx(1, abs=1e-3) for h in model.history_)
    assert model.history_[-1]["change"] < model.history_[1]["change"]
    assert model.confidence_left_.shape == (100,)
    assert model.confidence_right_.shape == (90,)
    assert ((model.confidence_left_ >= 0) & (model.confidence_left_ <= 1)).all()


def test_without_unpaired_rows_on_a_side_it_is_cca() -> None:
    x, y = toy(30)
    model = TransportAlignment(dim=4).fit(x, y[:12], identity(12))
    cca = TransportAlignment(dim=4, method="cca").fit(x, y[:12], identity(12))
    np.testing.assert_array_equal(model.transform_left(x), cca.transform_left(x))


def test_two_pairs_constant_columns_and_wide_features_are_finite() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 40)), rng.normal(size=(15, 50))
    x[:, 3], y[:, 0] = 0.1, 0.0
    model = TransportAlignment(rounds=2).fit(x, y, [[0, 1], [5, 2]])
    assert np.isfinite(model.transform_left(x)).all()
    assert np.isfinite(model.transform_right(y)).all()
    off = TransportAlignment(rounds=2, standardise=False).fit(x, y, [[0, 1], [5, 2]])
    assert (off.left_scale_ == 1).all()


def test_unbalanced_leaves_out_what_has_no_counterpart() -> None:
    x, y = toy(300, noise=0.3)
    strange = np.random.default_rng(9).normal(size=(60, 20)) * 10
    for plan, price in (("cosine", 0.2), ("likelihood", 2.0)):
        model = TransportAlignment(dim=6, plan=plan, unbalanced=price)
        model.fit(x, np.concatenate([y, strange]), identity(40))
        assert 0.1 < model.history_[-1]["mass"] < 0.95
        here, strangers = model.confidence_right_[40:300], model.confidence_right_[300:]
        assert np.isfinite(here).all()
        assert np.isfinite(strangers).all()


def test_whitener_of_weighted_rows_both_ways() -> None:
    """Fewer rows than features and more: the definition, with rows repeated as their weights say."""
    rng = np.random.default_rng(1)
    for n, d in ((6, 9), (30, 4)):
        rows, times = rng.normal(size=(n, d)), rng.integers(1, 4, n)
        mean, half = whitener(rows, times / times.sum(), 0.5)
        s = np.cov(np.repeat(rows, times, 0), rowvar=False, bias=True)
        np.testing.assert_allclose(mean, np.repeat(rows, times, 0).mean(0))
        inside = np.linalg.pinv(half) @ half  # the span of the rows
        inverse = np.linalg.inv(s + 0.5 * np.trace(s) / d * np.eye(d))
        np.testing.assert_allclose(half.T @ half, inside @ inverse @ inside, atol=1e-9)


def test_selection_takes_the_best_of_the_grid_by_held_out_pairs() -> None:
    x, y = toy(150)
    model = TransportAlignment(select=True, rounds=2, folds=3).fit(x, y, identity(24))
    scores = [result["score"] for result in model.cv_results_]
    assert len(scores) == 3 * 1 * 3  # ridge, dim (all cut to 20), weight
    assert {k: model.cv_results_[int(np.argmax(scores))][k] for k in model.best_params_} == model.best_params_
    trial = TransportAlignment(**model.best_params_, rounds=2, folds=3)
    assert cross_validate(trial, x, y, identity(24)).score == pytest.approx(max(scores))
    plain = TransportAlignment(**model.best_params_, rounds=2).fit(x, y, identity(24))
    np.testing.assert_array_equal(model.transform_left(x), plain.transform_left(x))
    assert model.with_chosen().get_params()["ridge"] == model.best_params_["ridge"]
    chosen, results = choose(TransportAlignment(method="cca", folds=3), x, y, identity(24))
    assert len(results) == 3
    assert chosen["weight"] == 1.0


def test_held_out_rows_are_in_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = toy(40)
    seen: list[tuple[int, int, int]] = []
    fit = TransportAlignment.fit

    def watch(self: Any, a: Any, b: Any, pairs: Any) -> Any:
        rows = {row.tobytes() for row in a} | {row.tobytes() for row in b}
        known = [i for i in range(10) if x[i].tobytes() in rows or y[i].tobytes() in rows]
        assert len(known) == len(pairs)
        for left, right in pairs:
            i = int(np.flatnonzero((x == a[left]).all(1))[0])
            np.testing.assert_array_equal(b[right], y[i])
        seen.append((len(a), len(b), len(pairs)))
        return fit(self, a, b, pairs)

    monkeypatch.setattr(TransportAlignment, "fit", watch)
    scores = cross_validate(TransportAlignment(dim=4, rounds=1), x, y, identity(10))
    assert seen == [(38, 38, 8)] * 5
    assert len(scores.ranks) == 20
    assert set(scores.gallery) == {32.0}


def test_ranks_of_unrelated_sets_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 10)), rng.normal(size=(300, 10))
    found = cross_validate(TransportAlignment(dim=5, rounds=2), x, y, identity(100)).summary()
    assert found["gallery"] == 220
    assert found["chance_R@10"] == pytest.approx(10 / 220)
    assert abs(found["median_rank"] - found["chance_median_rank"]) < 25
    constant = rank_pairs(np.ones((9, 1)), np.ones((9, 1)), identity(9), (np.empty(0, int), np.empty(0, int)))
    assert constant.summary()["median_rank"] == 5


def test_folds_hold_out_every_pair_once() -> None:
    for n in (4, 5, 23):
        parts = list(folds(n, 5, seed=1))
        assert sorted(np.concatenate([held for _, held in parts])) == list(range(n))
        assert all(len(train) >= 2 and not set(train) & set(held) for train, held in parts)
    with pytest.raises(ConfigError, match="too few pairs to hold some out"):
        list(folds(3, 5, seed=0))


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"dim": 0}, "dim"),
        ({"rounds": 0}, "rounds"),
        ({"rounds": 1.5}, "rounds"),
        ({"ridge": -1.0}, "ridge"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"weight": float("nan")}, "weight"),
        ({"unbalanced": 0.0}, "unbalanced"),
        ({"folds": 1}, "folds"),
        ({"method": "procrustes"}, "method"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], where: str) -> None:
    x, y = toy(20)
    with pytest.raises(ConfigError, match=f"^{where}: "):
        TransportAlignment(**options).fit(x, y, identity(4))


def test_bad_input() -> None:
    x, y = toy(20)
    model = TransportAlignment()
    with pytest.raises(ConfigError, match="learns from matched pairs; got 1, expected at least 2"):
        model.fit(x, y, [[0, 0]])
    with pytest.raises(ConfigError, match="got 0"):
        model.fit(x, y, [])
    with pytest.raises(DataError, match=r"pairs\[:, 1\]: no such row; got 0 to 20, expected 0 to 19"):
        model.fit(x, y, [[0, 0], [1, 20]])
    with pytest.raises(DataError, match=r"a row is in several pairs; got row 3"):
        model.fit(x, y, [[3, 0], [3, 1]])
    with pytest.raises(DataError, match="not a list of pairs"):
        model.fit(x, y, [[0.5, 0], [1, 1]])
    broken = x.copy()
    broken[7, 2] = np.nan
    with pytest.raises(DataError, match="X: rows are not finite; got NaN or infinity in row 7"):
        model.fit(broken, y, identity(4))
    with pytest.raises(DataError, match="Y: not a matrix of feature rows"):
        model.fit(x, y[0], identity(4))
    with pytest.raises(ConfigError, match="not fitted yet"):
        model.transform_left(x)
    model.set_params(rounds=1).fit(x, y, identity(4))
    with pytest.raises(DataError, match=r"got \[20, 20\], expected \[n, 30\]"):
        model.transform_left(y)


def slow_likelihood_plan(
    left: np.ndarray, right: np.ndarray, rho: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """Sinkhorn on the density ratio of the Gaussian, written out pair by pair."""
    left, right = (rows - rows.mean(0) for rows in (left, right))
    left, right = left / left.std(0), right / right.std(0)
    ratio = np.zeros((len(left), len(right)))
    for a, b, r in zip(left.T, right.T, np.minimum(rho, 0.98), strict=True):
        joint = stats.multivariate_normal([0, 0], [[1, r], [r, 1]])
        grid = np.stack(np.broadcast_arrays(a[:, None], b), -1)
        ratio += joint.logpdf(grid) - stats.norm.logpdf(a)[:, None] - stats.norm.logpdf(b)
    plan = np.exp(ratio) * prior
    for _ in range(3000):
        plan /= plan.sum(1, keepdims=True) * len(left)
        plan /= plan.sum(0) * len(right)
    return plan


@pytest.mark.parametrize("with_prior", [False, True])
def test_likelihood_plan_is_the_density_ratio_balanced(with_prior: bool) -> None:
    x, y = toy(50, seed=5)
    pairs, free = (x[:12], y[:12]), (x[12:40], y[12:50])
    options = RefineOptions(
        dim=3, plan="likelihood", epsilon=1.0, rounds=1, tol=1e-10, max_iter=9000, dtype=torch.float64
    )
    maps = fit_cca(*pairs, dim=3, ridge=3.0)
    sizes = np.linspace(4.0, 6.0, 28)[:, None], np.linspace(4.0, 6.0, 38)[:, None]
    prior = np.exp(-((sizes[0] - sizes[1].T) ** 2) / (2 * 0.3**2)) if with_prior else np.ones((28, 38))
    plan = slow_likelihood_plan(maps.left(free[0]), maps.right(free[1]), maps.correlations, prior)
    side = (sizes[0] / 0.3, sizes[1] / 0.3) if with_prior else None
    found = refine(pairs, free, options, prior=side)
    for axis, mine in ((1, found.confidence_left), (0, found.confidence_right)):
        q = plan / plan.sum(axis, keepdims=True)
        expected = 1 + (q * np.log(np.maximum(q, 1e-300))).sum(axis) / np.log(q.shape[axis])
        np.testing.assert_allclose(mine, expected, atol=1e-6)


def test_side_information_finds_partners_and_is_remembered() -> None:
    x, y = toy(200, noise=3.0)
    size = np.random.default_rng(1).uniform(3, 6, 200)
    plain = TransportAlignment(dim=6).fit(x, y, identity(6))
    told = TransportAlignment(dim=6, prior_width=0.01).fit(x, y, identity(6), prior=(size, size))
    assert told.prior_
    assert not plain.prior_
    assert median_rank(told, x, y) < median_rank(plain, x, y)
    with pytest.raises(DataError, match="side information does not fit"):
        TransportAlignment().fit(x, y, identity(6), prior=(size, size[:-1]))


def test_principal_components_are_folded_back() -> None:
    """All components give what no rotation gives; fewer give maps of the whole features nevertheless."""
    x, y = toy(120)
    whole = TransportAlignment(dim=4, method="cca", components=None).fit(x, y, identity(60))
    rotated = TransportAlignment(dim=4, method="cca", components=29).fit(x, y, identity(60))
    few = TransportAlignment(dim=4, method="cca", components=8).fit(x, y, identity(60))
    similarity = [m.transform_left(x) @ m.transform_right(y).T for m in (whole, rotated, few)]
    np.testing.assert_allclose(similarity[0], similarity[1], atol=0.05)
    assert few.maps_.left_weight.shape == (4, 30)
    axes = np.linalg.svd((x - x.mean(0)) / x.std(0), full_matrices=False)[2][:8].T
    inside = TransportAlignment(dim=4, method="cca", components=8, standardise=False)
    inside.fit((x - x.mean(0)) / x.std(0) @ axes, y, identity(60))
    np.testing.assert_allclose(
        np.abs(inside.maps_.left_weight @ axes.T), np.abs(few.maps_.left_weight), atol=1e-2
    )
