"""The other alignments: each against its definition written out, and all against one contract."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import ot
import pytest
import torch
from sklearn.base import clone

from protclip.alignment.asif import ASIF
from protclip.alignment.base import median_distance
from protclip.alignment.gromov import gromov_plan
from protclip.alignment.kernel import KernelCCA
from protclip.alignment.methods import LINEAR, METHODS, make_alignment
from protclip.alignment.mutual import MutualNeighbours, mutual_neighbours
from protclip.alignment.sotalign import SOTAlign
from protclip.alignment.sue import SUE, Spectrum, discrepancy
from protclip.alignment.transport import TransportAlignment
from protclip.errors import ConfigError, DataError

QUICK: dict[str, dict[str, Any]] = {
    "sotalign": {"steps": 5},
    "sue": {"steps": 5, "eigenvectors": 8},
    "transport": {"rounds": 2},
}


def views(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4))
    x = z @ rng.normal(size=(4, 12)) + 0.3 * rng.normal(size=(n, 12)) + 2
    return x, z @ rng.normal(size=(4, 9)) + 0.3 * rng.normal(size=(n, 9))


def identity(n: int) -> np.ndarray:
    return np.stack([np.arange(n)] * 2, 1)


@pytest.mark.parametrize("name", METHODS)
def test_one_contract(name: str) -> None:
    """Better than chance on rows of no fit; same input same result; clones, pickles; refuses bad input."""
    x, y = views()
    model = make_alignment(name, **QUICK.get(name, {}))
    with pytest.raises(ConfigError, match="not fitted"):
        model.transform_left(x)
    model.fit(x[:90], y[:90], identity(30))
    left, right = model.transform_left(x[90:]), model.transform_right(y[90:])
    assert left.shape == right.shape
    assert left.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, atol=1e-5)
    own = np.einsum("nd,nd->n", left, right)
    ranks = ((left @ right.T) > own[:, None]).sum(1)
    assert np.median(ranks) < 8, np.median(ranks)
    again = clone(model).fit(x[:90], y[:90], identity(30))
    np.testing.assert_array_equal(again.transform_left(x[90:]), left)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform_right(y[90:]), right)
    assert (name in LINEAR) == hasattr(model, "maps_")
    with pytest.raises(DataError):
        model.fit(x, y[:50], [(0, 60), (1, 1)])
    with pytest.raises(ConfigError):
        model.fit(x, y, [(0, 0)])


def test_no_such_method() -> None:
    with pytest.raises(ConfigError, match=r"unknown.*expected transport, cca"):
        make_alignment("magic")


@pytest.mark.parametrize("options", [{"dim": 0}, {"ridge": -1.0}, {"rounds": -3}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    x, y = views(30)
    with pytest.raises(ConfigError, match="out of range"):
        MutualNeighbours(**options).fit(x, y, identity(5))


def test_mutual_neighbours_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    left, right = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in rng.normal(size=(2, 40, 3)))
    cosines = left @ right.T
    crowd_left = [np.sort(row)[-4:].mean() for row in cosines]
    crowd_right = [np.sort(row)[-4:].mean() for row in cosines.T]
    score = 2 * cosines - np.array(crowd_left)[:, None] - crowd_right
    expected = [
        (i, j) for i in range(40) for j in range(40) if score[i].argmax() == j and score[:, j].argmax() == i
    ]
    assert list(zip(*mutual_neighbours(left, right, 4), strict=True)) == expected
    assert 3 < len(expected) < 40


def test_asif_row_by_row() -> None:
    x, y = views(50)
    model = ASIF(keep=3, exponent=2.0, standardise=False).fit(x, y, identity(10))
    centred = x - x.mean(0)
    expected = np.zeros(10)
    cosines = [centred[40] @ a / np.linalg.norm(centred[40]) / np.linalg.norm(a) for a in centred[:10]]
    for place in np.argsort(cosines)[-3:]:
        expected[place] = max(cosines[place], 0) ** 2
    np.testing.assert_allclose(model.transform_left(x)[40], expected / np.linalg.norm(expected), atol=1e-6)


def test_kernel_cca_correlations_are_those_of_the_dual_problem() -> None:
    """Bach and Jordan's generalised eigenvalues of centred kernel matrices, with the ridge of fit_cca."""
    x, y = views(60)
    n, ridge = 25, 0.5
    model = KernelCCA(dim=5, ridge=ridge, components=None).fit(x, y, identity(n))
    centre = np.eye(n) - 1 / n
    kernels = []
    for rows in (x, y):
        rows = (rows - rows.mean(0)) / rows.std(0)
        squares = ((rows[:n, None] - rows[None, :n]) ** 2).sum(-1)
        kernels.append(centre @ np.exp(-squares / (2 * median_distance(rows, 0) ** 2)) @ centre / n)
    # Ridge is a multiple of the mean eigenvalue in the span, whose width is that of the kernel's rank.
    roots = []
    for kernel in kernels:
        values, vectors = np.linalg.eigh(kernel)
        values = np.maximum(values, 0)
        roots.append(vectors * np.sqrt(values / (values + ridge * values.sum() / n)) @ vectors.T)
    expected = np.linalg.svd(roots[0] @ roots[1])[1][:5]
    np.testing.assert_allclose(model.maps_in_span_.correlations, expected, atol=1e-6)


def test_sotalign_gradient_is_that_of_the_divergence() -> None:
    """(Q - P) / epsilon against finite differences of KL(P | Q) through POT's Sinkhorn."""
    rng = np.random.default_rng(0)
    left, right = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in rng.normal(size=(2, 6, 3)))
    a = np.full(6, 1 / 6)

    def plan(cost: np.ndarray) -> np.ndarray:
        return ot.sinkhorn(a, a, cost, 0.3, stopThr=1e-14, numItermax=100_000)

    target = plan(1 - left @ right[::-1].T)
    cost = 1 - left @ right.T
    model = SOTAlign(epsilon=0.3)
    tensors = torch.from_numpy(left), torch.from_numpy(right)
    push = (model._plan(*tensors).numpy() - target) / 0.3
    for i, j in ((0, 0), (2, 5), (4, 1)):
        step = np.zeros((6, 6))
        step[i, j] = 1e-5
        kl = [(target * np.log(target / plan(cost - s * step))).sum() for s in (1, -1)]
        # more similarity is less cost
        assert (kl[0] - kl[1]) / 2e-5 == pytest.approx(push[i, j], abs=2e-4)


def test_spectrum_extends_itself_and_solves_the_random_walk() -> None:
    rng = np.random.default_rng(1)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 150))
    rows = np.stack([np.cos(angle), np.sin(angle)], 1)
    spectrum = Spectrum.of(rows, 2, 12)
    # The leading eigenvectors of a circle are a cosine and a sine: they give the angle back.
    found = np.unwrap(np.arctan2(spectrum.vectors[:, 1], spectrum.vectors[:, 0]))
    assert abs(np.corrcoef(found, angle)[0, 1]) > 0.99
    between = np.stack([np.cos(angle + 0.01), np.sin(angle + 0.01)], 1)
    moved = spectrum.extend(between)
    assert min(np.corrcoef(moved[:, k], spectrum.vectors[:, k])[0, 1] for k in (0, 1)) > 0.99


def test_discrepancy_pair_by_pair_and_residual_network_lowers_it() -> None:
    rng = np.random.default_rng(0)
    left, right = (torch.from_numpy(rng.normal(size=(n, 2)) + n / 20) for n in (12, 9))
    rows = torch.cat([left, right])
    middle = np.median([float(((a - b) ** 2).sum()) for a in rows for b in rows])
    weight = [1 / 12] * 12 + [-1 / 9] * 9
    expected = sum(
        weight[i] * weight[j] * np.exp(-float(((rows[i] - rows[j]) ** 2).sum()) / (2 * middle * f**2))
        for i in range(21)
        for j in range(21)
        for f in (0.5, 1.0, 2.0)
    )
    assert float(discrepancy(left, right)) == pytest.approx(expected, abs=2e-3)
    model = SUE(steps=60, eigenvectors=4, dim=4)
    shifted = (
        torch.randn(200, 4, generator=torch.Generator().manual_seed(0)),
        torch.randn(200, 4, generator=torch.Generator().manual_seed(1)) + 1,
    )
    network = model._train(*shifted)
    assert float(discrepancy(network(shifted[0]).detach(), shifted[1])) < 0.5 * float(discrepancy(*shifted))


def test_gromov_plan_equals_pot() -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(n, 3)) for n in (12, 15))
    distances = [np.linalg.norm(rows[:, None] - rows, axis=-1) for rows in (left, right)]
    distances = [d / d.max() for d in distances]
    theirs = ot.gromov.entropic_gromov_wasserstein(
        *distances,
        np.full(12, 1 / 12),
        np.full(15, 1 / 15),
        "square_loss",
        epsilon=0.05,
        tol=1e-12,
        max_iter=500,
    )
    mine = gromov_plan(*distances, epsilon=0.05, rounds=500, tol=1e-12)
    np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.slow
def test_without_any_pair_shape_alone_finds_partners() -> None:
    """One rotated set, not symmetric: Gromov-Wasserstein starts, the plan refines."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(150, 3)) ** 3 * [1.0, 2.0, 4.0]
    y = z @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    model = TransportAlignment(
        start="gromov", plan="cosine", power=0.5, ridge=0.01, standardise=False, dim=3
    ).fit(z, y, [])
    left, right = model.transform_left(z), model.transform_right(y)
    assert ((left @ right.T).argmax(1) == np.arange(150)).mean() > 0.3
    with pytest.raises(ConfigError, match="learns from matched pairs"):
        TransportAlignment().fit(z, y, [])
