"""The Cauchy-Schwarz divergence."""

import math

import pytest
import torch
from scipy.integrate import quad

from protclip.errors import ConfigError
from protclip.losses import MKMMD, CauchySchwarz


def slow(u, v, h=1.0):
    def mean(a, b):
        values = [
            math.exp(-sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / (2 * h * h))
            for x in a
            for y in b
        ]
        return sum(values) / len(values)

    return math.log(mean(u, u)) + math.log(mean(v, v)) - 2 * math.log(mean(u, v))


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("n", "m"), [(7, 7), (3, 8), (1, 4), (1, 1), (2, 2)])
def test_equals_the_loop(unit_rows, bandwidth, n, m):
    u, v = unit_rows(n), unit_rows(m, seed=1)
    for block_size in (0, 2):
        value = CauchySchwarz(bandwidth, block_size=block_size)(u, v)
        assert value.item() == pytest.approx(slow(u.tolist(), v.tolist(), bandwidth), rel=1e-10, abs=1e-12)


def test_equals_the_integrals_of_the_densities():
    """Kernels of width h stand for Parzen densities of width h / sqrt(2), in one dimension by quadrature."""
    u, v, h = [0.1, 0.7, -0.4], [1.3, 0.2], 0.8
    width = h / math.sqrt(2)

    def density(rows):
        norm = len(rows) * width * math.sqrt(2 * math.pi)
        return lambda x: sum(math.exp(-((x - r) ** 2) / (2 * width**2)) for r in rows) / norm

    p, q = density(u), density(v)
    pq, pp, qq = (
        quad(lambda x, f=f, g=g: f(x) * g(x), -8, 8, epsabs=1e-13)[0] for f, g in ((p, q), (p, p), (q, q))
    )
    rows = [torch.tensor(side, dtype=torch.float64)[:, None] for side in (u, v)]
    assert CauchySchwarz(h)(*rows).item() == pytest.approx(-math.log(pq**2 / (pp * qq)), rel=1e-9)


def test_closed_forms():
    e = torch.eye(2, dtype=torch.float64)
    assert CauchySchwarz(0.5)(e[:1], e[1:]).item() == pytest.approx(2 / 0.25)
    # A set and the same set moved across: only the means between the sets change, all by one factor.
    u = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    shift = torch.tensor([0.0, 0.7], dtype=torch.float64)
    assert CauchySchwarz(2.0)(u, u + shift).item() == pytest.approx(0.49 / 4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_permuted_set_gives_zero_and_no_gradient(unit_rows, dtype):
    u = unit_rows(40, 16, dtype=dtype)
    v = u[torch.randperm(40, generator=torch.Generator().manual_seed(1))].clone().requires_grad_()
    loss = CauchySchwarz(0.5)(u, v)
    loss.backward()
    small = 1e-12 if dtype == torch.float64 else 1e-5
    assert abs(loss.item()) < small
    assert v.grad.abs().max() < small


def test_roles_and_order_do_not_matter_and_it_is_never_negative(unit_rows):
    loss = CauchySchwarz(0.6)
    for seed in range(5):
        u, v = unit_rows(9, 3, seed), unit_rows(6, 3, seed + 10)
        assert loss(u, v).item() > 0
        assert loss(v, u).item() == pytest.approx(loss(u, v).item(), rel=1e-12)
        assert loss(u.flip(0), v).item() == pytest.approx(loss(u, v).item(), rel=1e-12)


def test_far_sets_still_pull_where_the_kernel_distance_has_faded(unit_rows):
    u = (0.01 * unit_rows(8)).float()
    v = (u + 3.0).requires_grad_()
    (pull,) = torch.autograd.grad(CauchySchwarz(0.1)(u, v), v)
    (faded,) = torch.autograd.grad(MKMMD(bandwidths=[0.02])(u, v), v)
    # Moving one set by t changes h^2 times the value by 2 t . (v - u).
    assert pull.sum(0).tolist() == pytest.approx([2 * 3.0 / 0.01] * 6, rel=0.02)
    assert faded.sum(0).abs().max() < 1e-6


@pytest.mark.parametrize("bandwidth", [0.4, 1.0])
@pytest.mark.parametrize("block_size", [0, 2])
def test_gradients(unit_rows, bandwidth, block_size):
    leaves = (unit_rows(4, 3).requires_grad_(), unit_rows(5, 3, 1).requires_grad_())
    assert torch.autograd.gradcheck(CauchySchwarz(bandwidth, block_size=block_size), leaves)


@pytest.mark.parametrize("bandwidth", [1e-3, 1.0])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_collapsed_sets_stay_finite(bandwidth, n):
    first = torch.tensor([1.0, 0.0, 0.0]).repeat(n, 1)
    for target in (first, first.roll(1, 1), first * (1 + 1e-7), torch.eye(3)):
        u, v = first.clone().requires_grad_(), target.clone().requires_grad_()
        value = CauchySchwarz(bandwidth)(u, v)
        value.backward()
        for number in (value, u.grad, v.grad):
            assert number.isfinite().all()


def test_empty_side_gives_a_connected_zero(unit_rows):
    u = unit_rows(3).requires_grad_()
    loss = CauchySchwarz()(u, unit_rows(0))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(u.grad, torch.zeros_like(u))


def test_half_precision_is_computed_in_full(unit_rows):
    u, v = unit_rows(12, 32).bfloat16(), unit_rows(12, 32, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert CauchySchwarz()(u, v).item() == CauchySchwarz()(u.float(), v.float()).item()


def test_errors(unit_rows):
    with pytest.raises(ConfigError, match=r"cs_bandwidth: out of range; got 0\.0, expected a number > 0"):
        CauchySchwarz(0.0)
    with pytest.raises(ConfigError, match="block_size"):
        CauchySchwarz(block_size=0.5)
    with pytest.raises(ConfigError, match="the two sides do not fit together"):
        CauchySchwarz()(unit_rows(3), unit_rows(3, 4))
