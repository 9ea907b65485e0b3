"""The multi-kernel maximum mean discrepancy."""

import math

import pytest
import torch

from protclip.errors import ConfigError
from protclip.losses import MKMMD
from protclip.losses.mmd import best_mixture, median_squared_distance


def slow(u, v, *, bandwidths=(), degrees=(), slope=1.0, offset=1.0, estimator="biased"):
    """One kernel value at a time; every kernel's value in a list."""

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    def gaussian(b):
        return lambda x, y: math.exp(-sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / b)

    def polynomial(p):
        return lambda x, y: ((slope * dot(x, y) + offset) / (slope + offset)) ** p

    def within(k, rows):
        values = [
            k(a, b)
            for i, a in enumerate(rows)
            for j, b in enumerate(rows)
            if estimator == "biased" or i != j or len(rows) == 1
        ]
        return sum(values) / len(values)

    def across(k):
        return sum(k(a, b) for a in u for b in v) / (len(u) * len(v))

    kernels = [gaussian(b) for b in bandwidths] + [polynomial(p) for p in degrees]
    return [within(k, u) + within(k, v) - 2 * across(k) for k in kernels]


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize(("bandwidths", "degrees"), [((1.0,), ()), ((), (1, 3)), ((0.5, 2.0), (2,))])
def test_equals_the_loop(unit_rows, estimator, bandwidths, degrees):
    options = {
        "bandwidths": bandwidths,
        "degrees": degrees,
        "slope": 2.0,
        "offset": 0.5,
        "estimator": estimator,
    }
    for n, m in ((6, 6), (3, 8), (1, 2), (1, 1)):
        u, v = unit_rows(n), unit_rows(m, seed=1)
        values = slow(u.tolist(), v.tolist(), **options)
        for block_size in (0, 2):
            loss = MKMMD(block_size=block_size, **options)(u, v).item()
            assert loss == pytest.approx(sum(values) / len(values), abs=1e-12)


def test_closed_forms():
    e = torch.eye(2, dtype=torch.float64)
    # Two points at squared distance 2.
    assert MKMMD(bandwidths=[1.0])(e[:1], e[1:]).item() == pytest.approx(2 - 2 * math.exp(-2))
    assert MKMMD(bandwidths=[], degrees=[2])(e[:1], e[1:]).item() == pytest.approx(2 - 2 * 0.25)
    # The linear kernel measures the distance of the means.
    u, v = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    linear = MKMMD(bandwidths=[], degrees=[1], slope=1.0, offset=0.0)
    assert linear(u, v).item() == pytest.approx((u.mean(0) - v.mean(0)).square().sum().item())


def test_median_bandwidth(unit_rows):
    u, v = unit_rows(5), unit_rows(4, seed=1)
    pooled = torch.cat([u, v])
    distances = sorted((pooled[i] - pooled[j]).square().sum().item() for i in range(9) for j in range(i))
    median = distances[(len(distances) - 1) // 2]
    assert median_squared_distance(u, v).item() == pytest.approx(median)
    expected = slow(u.tolist(), v.tolist(), bandwidths=[0.5 * median, 4 * median])
    loss = MKMMD(bandwidths=[0.5, 4.0], bandwidth_mode="median")(u, v)
    assert loss.item() == pytest.approx(sum(expected) / 2)


def test_median_of_many_rows_is_taken_from_both_sides(unit_rows):
    u, v = unit_rows(1500, 8), unit_rows(900, 8, 1)
    pooled = torch.cat([u, v])
    exact = torch.pdist(pooled).square().median().item()
    assert median_squared_distance(u, v).item() == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("options", [{}, {"bandwidth_mode": "median"}, {"weights": "learned"}])
def test_permuted_sets_are_equal(unit_rows, options):
    u = unit_rows(30)
    loss = MKMMD(bandwidths=[0.5, 2.0], degrees=[2], **options)(u, u.flip(0))
    assert abs(loss.item()) < 1e-12


def test_roles_and_order_do_not_matter(unit_rows):
    u, v = unit_rows(7), unit_rows(9, seed=1)
    loss = MKMMD(bandwidths=[1.0, 2.0], degrees=[2], weights="learned", bandwidth_mode="median")
    assert loss(v, u).item() == pytest.approx(loss(u, v).item(), rel=1e-9)
    assert loss(u.flip(0), v).item() == pytest.approx(loss(u, v).item(), rel=1e-9)


@pytest.mark.parametrize("block_size", [0, 2])
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_gradients(unit_rows, block_size, estimator):
    leaves = (unit_rows(4, 3).requires_grad_(), unit_rows(5, 3, 1).requires_grad_())
    loss = MKMMD(bandwidths=[1.0, 3.0], degrees=[2, 3], estimator=estimator, block_size=block_size)
    assert torch.autograd.gradcheck(loss, leaves)


def test_median_and_learned_weights_are_constants_in_the_gradient(unit_rows):
    u, v = unit_rows(12).requires_grad_(), unit_rows(10, seed=1).add(0.2)
    loss = MKMMD(bandwidths=[0.2, 5.0], bandwidth_mode="median", degrees=[2], weights="learned")
    (grad,) = torch.autograd.grad(loss(u, v), u)
    median = median_squared_distance(u, v).item()
    widths = [0.2 * median, 5 * median]
    singles = [MKMMD(bandwidths=[b])(u, v) for b in widths] + [MKMMD(bandwidths=[], degrees=[2])(u, v)]
    grads = torch.stack(
        [torch.autograd.grad(single, u, retain_graph=True)[0].flatten() for single in singles]
    )
    beta = torch.linalg.lstsq(grads.T, grad.flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(grads.T @ beta, grad.flatten(), rtol=1e-8, atol=1e-10)
    assert beta.sum().item() == pytest.approx(1.0)
    assert (beta @ torch.stack(singles).detach()).item() == pytest.approx(loss(u, v).item())


def test_learned_weights_find_the_telling_kernel():
    # The sets differ in their means by little and in their local scale by much: a narrow kernel tells.
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(200, 4, generator=generator)
    v = torch.randn(200, 4, generator=generator) * 0.6
    options = {"bandwidths": [4.0, 1e4]}
    learned, uniform = MKMMD(weights="learned", **options)(u, v), MKMMD(**options)(u, v)
    single = MKMMD(bandwidths=[4.0])(u, v)
    assert learned.item() > 1.5 * uniform.item()
    assert learned.item() == pytest.approx(single.item(), rel=0.05)


def test_best_mixture_beats_every_other_mixture(unit_rows):
    generator = torch.Generator().manual_seed(3)
    witness_u, witness_v = torch.randn(2, 3, 50, generator=generator, dtype=torch.float64)
    value = torch.tensor([0.5, 0.3, -0.1], dtype=torch.float64)
    beta = best_mixture(value, witness_u, witness_v)
    spread = sum(4 / 50 * torch.cov(w, correction=0) for w in (witness_u, witness_v))

    def power(weights):
        return (weights @ value / (weights @ spread @ weights).sqrt()).item()

    assert beta.min() >= 0
    assert beta.sum().item() == pytest.approx(1.0)
    grid = torch.linspace(0, 1, 21, dtype=torch.float64)
    others = [torch.stack([a, b, 1 - a - b]) for a in grid for b in grid if a + b <= 1]
    assert power(beta) >= max(map(power, others)) - 1e-3


def test_best_mixture_without_any_evidence_is_uniform():
    noise = torch.zeros(3, 4)
    assert best_mixture(torch.tensor([-1.0, 0.0, -2.0]), noise, noise).tolist() == pytest.approx([1 / 3] * 3)
    assert best_mixture(torch.tensor([torch.nan, 0.0, 1.0]), noise, noise).tolist() == pytest.approx(
        [1 / 3] * 3
    )


@pytest.mark.parametrize("mode", ["fixed", "median"])
@pytest.mark.parametrize("weights", ["uniform", "learned"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_collapsed_sets_stay_finite(mode, weights, n):
    loss = MKMMD(bandwidths=[0.5, 1.0], degrees=[2], bandwidth_mode=mode, weights=weights)
    first = torch.tensor([1.0, 0.0, 0.0]).repeat(n, 1)
    for target in (first, first.roll(1, 1), first * (1 + 1e-7)):
        u, v = first.clone().requires_grad_(), target.clone().requires_grad_()
        value = loss(u, v)
        value.backward()
        assert value.isfinite()
        assert u.grad.isfinite().all()
        assert v.grad.isfinite().all()


def test_empty_side_gives_a_connected_zero(unit_rows):
    u = unit_rows(3).requires_grad_()
    loss = MKMMD()(u, unit_rows(0))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(u.grad, torch.zeros_like(u))


def test_half_precision_is_computed_in_full(unit_rows):
    u, v = unit_rows(12, 32).bfloat16(), unit_rows(12, 32, 1).bfloat16()
    loss = MKMMD(degrees=[2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(u, v).item() == loss(u.float(), v.float()).item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidths": []}, "no kernel is left"),
        ({"bandwidths": [1.0, -1.0]}, r"mmd_bandwidths\[1\]: out of range; got -1.0"),
        ({"bandwidths": 1.0}, "mmd_bandwidths: not a list of numbers; got 1.0"),
        ({"degrees": [1.5]}, r"mmd_degrees\[0\]: wrong type; got 1.5, expected a whole number > 0"),
        ({"weights": "joint"}, "mmd_weights: unknown choice; got 'joint', expected uniform or learned"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        MKMMD(**options)
