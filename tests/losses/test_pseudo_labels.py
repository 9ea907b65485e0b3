"""Pseudo-labels and partial labels against POT and slow references."""

import math

import ot
import pytest
import torch

from protclip.config.loss import LossConfig
from protclip.config.presets import loss_preset
from protclip.errors import ConfigError
from protclip.losses import Keywords, Objective, Views, keyword_loss, pseudo_label_loss, pseudo_labels

KINDS = ["hard", "soft", "s-clip"]


def slow_label(row, known, scale, kind):
    """Label of one row; "s-clip" is not a matter of one row."""
    products = [scale * sum(float(a) * float(b) for a, b in zip(row, key, strict=True)) for key in known]
    if kind == "hard":
        return [float(p == max(products)) for p in products]
    total = sum(math.exp(p) for p in products)
    return [math.exp(p) / total for p in products]


def slow_loss(rows, keys, scale, labels):
    values = []
    for row, label in zip(rows, labels, strict=True):
        products = [scale * float(row @ key) for key in keys]
        total = math.log(sum(math.exp(p) for p in products))
        values.append(sum(q * (total - p) for q, p in zip(label, products, strict=True)))
    return sum(values) / len(values)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_labels_row_by_row(unit_rows, kind):
    rows, known = unit_rows(5), unit_rows(7, seed=1)
    expected = [slow_label(row, known, 6.0, kind) for row in rows]
    torch.testing.assert_close(pseudo_labels(rows, known, 6.0, kind), torch.tensor(expected).double())


@pytest.mark.parametrize(("n", "m", "scale", "steps"), [(5, 7, 6.0, 10), (30, 4, 20.0, 10), (3, 9, 3.3, 1)])
def test_transport_labels_equal_pot(unit_rows, n, m, scale, steps):
    rows, known = unit_rows(n), unit_rows(m, seed=1)
    cost = 1 - (rows @ known.T).numpy()
    plan = ot.sinkhorn([1 / n] * n, [1 / m] * m, cost, reg=1 / scale, numItermax=steps, stopThr=0, warn=False)
    expected = plan / plan.sum(1, keepdims=True)
    found = pseudo_labels(rows, known, scale, "s-clip", steps=steps).numpy()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_transport_labels_use_every_partner(unit_rows):
    """All rows lie next to one known row: nearest-neighbour labels pick it alone, transport spreads them."""
    known = torch.eye(4).double()
    rows = torch.nn.functional.normalize(known[:1] + 0.2 * unit_rows(40, 4), dim=1)
    assert pseudo_labels(rows, known, 10.0, "soft").mean(0)[0] > 0.9
    even = pseudo_labels(rows, known, 10.0, "s-clip", steps=500).mean(0)
    torch.testing.assert_close(even, torch.full_like(even, 0.25))


def test_transport_labels_do_not_overflow(unit_rows):
    found = pseudo_labels(unit_rows(6).float(), unit_rows(4, seed=1).float(), 1e4, "s-clip")
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(1), torch.ones(6))


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_the_slow_ones(unit_rows, kind):
    """The gradient is that of the cross-entropy to constant labels, by finite differences."""
    u, v, pairs = unit_rows(7).requires_grad_(), unit_rows(6, seed=1).requires_grad_(), 3
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    labels = [pseudo_labels(x[pairs:], x[:pairs], 5.0, kind).tolist() for x in (u, v)]

    def reference(u, v, scale):
        left = slow_loss(u[pairs:], v[:pairs], scale, labels[0])
        return left + slow_loss(v[pairs:], u[:pairs], scale, labels[1])

    loss = pseudo_label_loss(u, v, scale, pairs, kind)
    assert loss.item() == pytest.approx(reference(u.detach(), v.detach(), 5.0), rel=1e-12)
    loss.backward()
    step = 1e-6
    for leaf, row, column in ((u, 0, 1), (u, 5, 2), (v, 1, 0), (v, 4, 3)):
        values = []
        for sign in (1, -1):
            moved = [x.detach().clone() for x in (u, v)]
            moved[0 if leaf is u else 1][row, column] += sign * step
            values.append(reference(*moved, 5.0))
        slope = (values[0] - values[1]) / (2 * step)
        assert leaf.grad[row, column].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)
    both = [reference(u.detach(), v.detach(), 5.0 + sign * step) for sign in (1, -1)]
    assert scale.grad.item() == pytest.approx((both[0] - both[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("objective", ["hard-pl", "soft-pl", "s-clip", "setclip+s-clip"])
@pytest.mark.parametrize(
    ("n", "m", "pairs"), [(2, 2, 0), (2, 2, 1), (2, 2, 2), (1, 1, 0), (1, 1, 1), (5, 3, 2), (3, 2, 2)]
)
@pytest.mark.parametrize("collapsed", [False, True])
def test_small_and_collapsed_batches_are_finite(unit_rows, objective, n, m, pairs, collapsed):
    sizes = (n, m, n, m)
    rows = [unit_rows(1).expand(s, 6) if collapsed else unit_rows(s, seed=i) for i, s in enumerate(sizes)]
    rows = [r.float().clone().requires_grad_() for r in rows]
    scale = torch.tensor(14.0, requires_grad=True)
    losses = Objective(loss_preset(objective=objective))(Views(*rows, n_pairs=pairs, scale=scale))
    losses["loss"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in (*rows, scale))
    if pairs < 2 or n == m == pairs:
        assert losses["pseudo"].item() == pytest.approx(0.0, abs=1e-6)


def test_one_sided_pools(unit_rows):
    """Only the left side has unmatched rows, as in S-CLIP's own setting."""
    u, v = unit_rows(6), unit_rows(2, seed=1)
    labels = pseudo_labels(u[2:], u[:2], 4.0, "s-clip")
    found = pseudo_label_loss(u, v, 4.0, 2, "s-clip").item()
    assert found == pytest.approx(slow_loss(u[2:], v, 4.0, labels.tolist()))


def test_keywords_against_a_loop(unit_rows):
    rows, known, words = unit_rows(6).requires_grad_(), unit_rows(4, seed=1), unit_rows(5, seed=2)
    candidates = torch.tensor(
        [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0]], dtype=torch.bool
    )
    values = []
    for row in rows.detach():
        allowed = candidates[(known @ row).argmax()]
        odds = (3.0 * words @ row).exp()
        if allowed.any():
            label = torch.where(allowed, odds, 0.0) / odds[allowed].sum()
            values.append(-(label * (odds / odds.sum()).log()).sum())
    assert 0 < len(values) < 6, "the example should have rows with and without candidates"
    loss = keyword_loss(rows, known, 3.0, words, candidates)
    assert loss.item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-12)
    loss.backward()
    unused = [i for i, row in enumerate(rows) if not candidates[(known @ row).argmax()].any()]
    assert (rows.grad[unused] == 0).all()
    assert rows.grad.abs().max() > 1e-3


@pytest.mark.parametrize(("n", "m", "k"), [(0, 3, 2), (3, 0, 2), (3, 2, 0)])
def test_no_rows_or_no_keywords(unit_rows, n, m, k):
    rows = unit_rows(3)[:n].requires_grad_()
    loss = keyword_loss(rows, unit_rows(3)[:m], 3.0, unit_rows(3)[:k], torch.ones(m, k, dtype=torch.bool))
    assert loss.item() == 0.0
    loss.backward()


def test_keywords_of_one_side_label_the_other(unit_rows):
    u, v, words = unit_rows(6), unit_rows(5, seed=1), unit_rows(4, seed=2)
    candidates = torch.eye(3, 4, dtype=torch.bool)
    objective = Objective(loss_preset(objective="s-clip", keyword_weight=0.7))
    losses = objective(Views(u, v, n_pairs=3, scale=4.0, v_keywords=Keywords(words, candidates)))
    expected = keyword_loss(u[3:], u[:3], 4.0, words, candidates)
    assert losses["keywords"].item() == pytest.approx(expected.item())
    total = losses["clip"] + 0.5 * losses["pseudo"] + 0.7 * losses["keywords"]
    assert losses["loss"].item() == pytest.approx(total.item())


def test_objectives_choose_their_terms():
    names = {"clip": {"clip"}, "clip-all": {"clip"}, "hard-pl": {"clip", "pseudo"}, "transport": {"clip"}}
    names |= {"soft-pl": {"clip", "pseudo"}, "s-clip": {"clip", "pseudo", "keywords"}}
    every = {"clip", "mmd", "sdd", "ssl_left", "ssl_right"}
    names |= {"setclip": every, "setclip+s-clip": every | {"pseudo", "keywords"}, "setclip+transport": every}
    for objective, terms in names.items():
        config = loss_preset(objective=objective)
        assert set(Objective(config).terms) == terms, objective
        assert config.for_objective(objective) == config, objective
        assert bool(config.transport_weight) == objective.endswith("transport"), objective
    assert loss_preset(objective="setclip", transport_weight=1.5).transport_weight == 1.5
    assert loss_preset(objective="clip", transport_weight=1.5, pseudo_labels="hard") == loss_preset(
        objective="clip"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pseudo_labels": "sclip"}, "Did you mean s-clip"),
        ({"pseudo_steps": 0}, "pseudo_steps"),
        ({"keyword_weight": -1.0}, "keyword_weight"),
        ({"transport_warmup": 2.0}, "transport_warmup"),
        ({"transport_items": 1}, "transport_items"),
        ({"transport_epsilon": 0.0}, "transport_epsilon"),
    ],
)
def test_bad_options_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        LossConfig(**values)


def test_bad_calls_are_named(unit_rows):
    rows = unit_rows(3)
    with pytest.raises(ConfigError, match="unknown choice"):
        pseudo_labels(rows, rows, 1.0, "none")
    with pytest.raises(ConfigError, match="number of pairs out of range"):
        pseudo_label_loss(rows, rows, 1.0, 4, "hard")
    with pytest.raises(ConfigError, match="candidates do not fit"):
        keyword_loss(rows, rows, 1.0, rows, torch.ones(2, 3, dtype=torch.bool))
