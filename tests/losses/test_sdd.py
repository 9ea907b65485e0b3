"""The semantic density distribution loss."""

import math

import pytest
import torch

from protclip.errors import ConfigError
from protclip.losses import SDD


def slow(u, v, *, rd=True, divergence="kl", self_term=True, reduce="mean", h=0.5, c=1.0, rescale=None):
    """The formulas, one row at a time."""

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    def variance(rows):
        centre = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        return sum(distance(row, centre) for row in rows) / (len(rows) - 1) if rd else 1.0

    def density(x, rows, skip=None):
        sigma2 = variance(rows)
        parts = [math.exp(-distance(x, s) / (4 * h * h * sigma2)) for j, s in enumerate(rows) if j != skip]
        return c * sum(parts) / (len(parts) if reduce == "mean" else 1)

    def box(rows):
        return sum((max(column) - min(column)) ** 2 for column in zip(*rows, strict=True))

    def one_way(a, b):
        terms = []
        for i, x in enumerate(a):
            own, other = density(x, a, None if self_term else i), density(x, b)
            kl = (own - other) * (math.log(own) - math.log(other))
            terms.append(kl if divergence == "kl" else (own - other) ** 2)
        return sum(terms) if reduce == "sum" and divergence == "kl" else sum(terms) / len(terms)

    value = one_way(u, v) + one_way(v, u)
    return value * min(1 / box(u) + 1 / box(v), rescale) if rescale else value


@pytest.mark.parametrize("rd", [True, False])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_equals_the_loop(unit_rows, rd, divergence, self_term, reduce):
    options = {"divergence": divergence, "self_term": self_term, "reduce": reduce}
    for n, m in ((7, 7), (4, 9), (2, 2)):
        u, v = unit_rows(n), unit_rows(m, seed=1)
        expected = slow(u.tolist(), v.tolist(), rd=rd, **options)
        for block_size in (0, 3):
            loss = SDD(relative_distance=rd, block_size=block_size, **options)(u, v)
            assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_constants_and_rescaling_equal_the_loop(unit_rows):
    u, v = unit_rows(6), unit_rows(5, seed=1) * 0.9
    for h, c, rescale in ((0.3, 0.119, None), (0.5, 2.0, 1e3), (0.5, 1.0, 0.4)):
        expected = slow(u.tolist(), v.tolist(), h=h, c=c, rescale=rescale)
        switches = {} if rescale is None else {"rescale": True, "rescale_max": rescale}
        assert SDD(bandwidth=h, constant=c, **switches)(u, v).item() == pytest.approx(expected, rel=1e-10)


def test_closed_form_of_two_points():
    # U = {0, e}, V = {t, e + t}: sigma^2 = 1/2 for both, so that d^2 / sigma^2 = 2 d^2.
    e, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    u = torch.cat([0 * e, e]).double()
    v = (u + t).double()
    own = (1 + math.exp(-2)) / 2
    other = own * math.exp(-2 * 0.25)
    assert SDD()(u, v).item() == pytest.approx(2 * (own - other) * 0.5, rel=1e-12)


@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_permuted_set_gives_zero_and_no_gradient(unit_rows, divergence, reduce):
    u = unit_rows(40, 16)
    v = u[torch.randperm(40, generator=torch.Generator().manual_seed(1))].clone().requires_grad_()
    loss = SDD(divergence=divergence, reduce=reduce)(u, v)
    loss.backward()
    assert abs(loss.item()) < 1e-20
    assert v.grad.abs().max() < 1e-12


def test_roles_and_order_do_not_matter(unit_rows):
    u, v = unit_rows(9), unit_rows(6, seed=1)
    loss = SDD()
    assert loss(v, u).item() == pytest.approx(loss(u, v).item(), rel=1e-12)
    assert loss(u.flip(0), v).item() == pytest.approx(loss(u, v).item(), rel=1e-12)


def test_relative_distance_sees_two_tight_clusters_slightly_apart(unit_rows):
    base = unit_rows(1, 16)
    u = base + 0.01 * unit_rows(30, 16, 1)
    v = base + 0.01 * unit_rows(30, 16, 2) + 0.05 * unit_rows(1, 16, 3)
    with_rd, without = SDD()(u, v).item(), SDD(relative_distance=False)(u, v).item()
    assert with_rd > 1
    assert without < 1e-3
    # ... in single precision too.
    assert SDD()(u.float(), v.float()).item() == pytest.approx(with_rd, rel=1e-3)


def test_mean_does_not_depend_on_the_batch_size(unit_rows):
    u, v = unit_rows(20), unit_rows(20, seed=1)
    twice = (torch.cat([u, u]), torch.cat([v, v]))
    no_rd = {"relative_distance": False}
    assert SDD(**no_rd)(*twice).item() == pytest.approx(SDD(**no_rd)(u, v).item(), rel=1e-9)
    summed = SDD(reduce="sum", **no_rd)
    assert summed(*twice).item() == pytest.approx(4 * summed(u, v).item(), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"self_term": False}, {"divergence": "mse"}, {"rescale": True}])
def test_gradients(unit_rows, options):
    leaves = (unit_rows(4, 3).requires_grad_(), unit_rows(5, 3, 1).requires_grad_())
    assert torch.autograd.gradcheck(SDD(**options), leaves)


@pytest.mark.parametrize("self_term", [True, False])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_collapsed_sets_stay_finite(self_term, divergence, rescale, n):
    loss = SDD(self_term=self_term, divergence=divergence, rescale=rescale)
    first = torch.tensor([1.0, 0.0, 0.0]).repeat(n, 1)
    for target in (first, first.roll(1, 1), first * (1 + 1e-7), first.flip(0) + torch.eye(3)[:1] * 1e-3):
        u, v = first.clone().requires_grad_(), target.clone().requires_grad_()
        value = loss(u, v)
        value.backward()
        assert value.isfinite()
        assert u.grad.isfinite().all()
        assert v.grad.isfinite().all()


def test_one_row_without_self_term_has_no_density(unit_rows):
    u, v = unit_rows(1), unit_rows(4, seed=1)
    both = SDD(self_term=False)(u, v).item()
    own = SDD(self_term=False)
    assert both == pytest.approx(own._divergence(v, v, u).item())


def test_empty_side_gives_a_connected_zero(unit_rows):
    u = unit_rows(3).requires_grad_()
    loss = SDD()(u, unit_rows(0))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(u.grad, torch.zeros_like(u))


def test_half_precision_is_computed_in_full(unit_rows):
    u, v = unit_rows(12, 32).bfloat16(), unit_rows(12, 32, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert SDD()(u, v).item() == SDD()(u.float(), v.float()).item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": 0.0}, "sdd_bandwidth: out of range; got 0.0, expected a number > 0"),
        ({"divergence": "js"}, "sdd_divergence: unknown choice; got 'js', expected kl or mse"),
        ({"self_term": 1}, "sdd_self_term: not a switch; got 1, expected true or false"),
        ({"reduce": "total"}, "sdd_reduce"),
        ({"block_size": 2.5}, "block_size"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        SDD(**options)
