"""Equal items in one batch are no negatives of each other."""

import math

import pytest
import torch

from protclip.config.presets import loss_preset
from protclip.errors import ConfigError
from protclip.losses import Copies, NTXent, Objective, Views, clip_loss, sigmoid_loss


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def matches(u, v, pairs, i, j):
    """Whether a pair says that the item of row i of u matches that of row j of v."""
    return any(u[k] == u[i] and v[k] == v[j] for k in range(pairs))


def negatives_of(own, other, pairs, columns, i):
    return [j for j in range(columns) if j != i and not matches(own, other, pairs, i, j)]


def slow_clip(u, v, scale, pairs, negatives, a, b):
    total = 0.0
    for x, y, own, other in ((u, v, a, b), (v, u, b, a)):
        columns = len(y) if negatives == "all" else pairs
        for i in range(pairs):
            chosen = [i, *negatives_of(own, other, pairs, columns, i)]
            logits = {j: scale * dot(x[i], y[j]) for j in chosen}
            total += math.log(sum(map(math.exp, logits.values()))) - logits[i]
    return total / (2 * pairs)


def slow_sigmoid(u, v, scale, pairs, negatives, a, b):
    total = 0.0
    for x, y, own, other in ((u, v, a, b), (v, u, b, a)):
        columns = len(y) if negatives == "all" else pairs
        if columns == 1:
            continue
        bias = -math.log(columns - 1)
        for i in range(pairs):
            total += math.log1p(math.exp(-scale * dot(x[i], y[i]) - bias))
            for j in negatives_of(own, other, pairs, columns, i):
                total += math.log1p(math.exp(scale * dot(x[i], y[j]) + bias))
    return total / (2 * pairs)


def slow_ssl(rows, views, groups, temperature):
    n, every = len(rows), [*rows, *views]
    total = 0.0
    for i in range(2 * n):
        twin = (i + n) % (2 * n)
        chosen = [j for j in range(2 * n) if j == twin or groups[j % n] != groups[i % n]]
        logits = {j: dot(every[i], every[j]) / temperature for j in chosen}
        total += math.log(sum(map(math.exp, logits.values()))) - logits[twin]
    return total / (2 * n)


SHAPES = [(6, 6, 6), (7, 9, 4), (9, 5, 1), (2, 2, 2), (1, 1, 1)]


@pytest.mark.parametrize(("loss", "slow"), [(clip_loss, slow_clip), (sigmoid_loss, slow_sigmoid)])
@pytest.mark.parametrize("negatives", ["paired", "all"])
@pytest.mark.parametrize(("n", "m", "pairs"), SHAPES)
@pytest.mark.parametrize("kinds", [1, 2, 4])
def test_contrast_equals_the_loop(unit_rows, loss, slow, negatives, n, m, pairs, kinds):
    u, v = unit_rows(n, 5, 1), unit_rows(m, 5, 2)
    generator = torch.Generator().manual_seed(kinds)
    a, b = (torch.randint(0, kinds, (size,), generator=generator) for size in (n, m))
    expected = slow(u.tolist(), v.tolist(), 7.0, pairs, negatives, a.tolist(), b.tolist())
    for block_size in (0, 2):
        value = loss(u, v, 7.0, pairs, negatives, block_size=block_size, copies=Copies(a, b))
        assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kinds", [1, 2, 4])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_self_supervised_equals_the_loop(unit_rows, n, kinds):
    rows, views = unit_rows(n, 5, 1), unit_rows(n, 5, 2)
    groups = torch.randint(0, kinds, (n,), generator=torch.Generator().manual_seed(kinds))
    expected = slow_ssl(rows.tolist(), views.tolist(), groups.tolist(), 0.3)
    for block_size in (0, 3):
        assert NTXent(0.3, block_size=block_size)(rows, views, groups).item() == pytest.approx(
            expected, abs=1e-12
        )


def test_two_equal_items_cost_nothing():
    rows = torch.eye(8, dtype=torch.float64)
    rows[1] = rows[0]
    groups = torch.tensor([0, 0, 2, 3, 4, 5, 6, 7])
    assert clip_loss(rows, rows, 100.0, 8).item() == pytest.approx(math.log(2) / 4)
    assert clip_loss(rows, rows, 100.0, 8, copies=Copies(groups, groups)).item() == pytest.approx(
        0, abs=1e-12
    )
    assert NTXent(0.01)(rows, rows).item() == pytest.approx(math.log(3) / 4)
    assert NTXent(0.01)(rows, rows, groups).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("side", [0, 1])
def test_copies_of_one_side_alone_count_for_both_directions(side):
    # Row 0 and 1 are one item with two partners, which lie apart from each other and from it.
    rows, others = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    rows[1] = rows[0]
    groups = [torch.tensor([0, 0, 2, 3]), torch.arange(4)]
    copies = Copies(*(groups if side == 0 else groups[::-1]))
    u, v = (rows, others) if side == 0 else (others, rows)
    # Item against its second partner: product 0 beside two others of 0; all other matches are at 100.
    assert clip_loss(u, v, 100.0, 4, copies=copies).item() == pytest.approx(2 * math.log(3) / 8)


@pytest.mark.parametrize("loss", [clip_loss, sigmoid_loss])
@pytest.mark.parametrize("negatives", ["paired", "all"])
def test_where_all_items_differ_nothing_changes(unit_rows, loss, negatives):
    found = []
    for copies in (None, Copies(torch.arange(7), torch.arange(9).flip(0))):
        u, v = unit_rows(7, 5, 1).float().requires_grad_(), unit_rows(9, 5, 2).float().requires_grad_()
        value = loss(u, v, 7.0, 5, negatives, copies=copies)
        found.append([value, *torch.autograd.grad(value, (u, v))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("loss", [clip_loss, sigmoid_loss])
@pytest.mark.parametrize("negatives", ["paired", "all"])
def test_gradients(unit_rows, loss, negatives):
    leaves = (unit_rows(5, 3).requires_grad_(), unit_rows(6, 3, 1).requires_grad_())
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    copies = Copies(torch.tensor([0, 1, 0, 3, 1]), torch.tensor([0, 1, 2, 3, 1, 2]))

    def value(u, v, s):
        return loss(u, v, s, 4, negatives, block_size=2, copies=copies)

    assert torch.autograd.gradcheck(value, (*leaves, scale))
    groups = torch.tensor([0, 1, 0, 3, 1])
    views = unit_rows(5, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: NTXent(0.4)(a, b, groups), (leaves[0], views))


def test_the_objective_hands_them_to_its_terms(unit_rows):
    u, v, u_view, v_view = (unit_rows(6, 5, seed) for seed in range(4))
    copies = Copies(torch.tensor([0, 1, 2, 0, 4, 5]), torch.tensor([0, 1, 2, 3, 1, 1]))
    losses = Objective(loss_preset("default"))(Views(u, v, u_view, v_view, 4, 9.0, copies=copies))
    assert losses["clip"].item() == clip_loss(u, v, 9.0, 4, copies=copies).item()
    temperature = loss_preset("default").ssl_temperature
    for name, rows, views, groups in (("left", u, u_view, copies.u), ("right", v, v_view, copies.v)):
        expected = slow_ssl(rows.tolist(), views.tolist(), groups.tolist(), temperature)
        assert losses[f"ssl_{name}"].item() == pytest.approx(expected, abs=1e-9)


def test_too_few_numbers_are_refused():
    rows = torch.eye(3)
    with pytest.raises(
        ConfigError, match="not a number for every row; got 2 and 3, expected at least 3 and 3"
    ):
        clip_loss(rows, rows, 1.0, 3, copies=Copies(torch.arange(2), torch.arange(3)))
    with pytest.raises(ConfigError, match="not a number for every row; got 2 numbers, expected 3"):
        NTXent()(rows, rows, torch.arange(2))
