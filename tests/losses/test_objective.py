"""The dictionary of named terms."""

import copy

import pytest
import torch

from protclip.config.loss import LossConfig
from protclip.config.presets import LOSS_PRESETS, loss_preset
from protclip.errors import ConfigError
from protclip.losses import (
    MKMMD,
    SDD,
    CauchySchwarz,
    NTXent,
    Objective,
    Term,
    Views,
    clip_loss,
    gather_views,
    sigmoid_loss,
)


@pytest.fixture
def views(unit_rows):
    rows = [unit_rows(n, 8, seed).requires_grad_() for n, seed in ((9, 0), (7, 1), (9, 2), (7, 3))]
    return Views(*rows, n_pairs=4, scale=torch.tensor(9.0, dtype=torch.float64, requires_grad=True))


def test_total_follows_the_formula(views):
    config = LossConfig(mmd_weight=0.2, sdd_weight=0.7, clip_weight=1.3, ssl_weight=0.15)
    losses = Objective(config)(views)
    assert set(losses) == {"loss", "clip", "mmd", "sdd", "ssl_left", "ssl_right"}
    supervised = losses["clip"] + 0.15 * (losses["ssl_left"] + losses["ssl_right"])
    expected = 0.2 * losses["mmd"] + 0.7 * losses["sdd"] + 1.3 * supervised
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-12)


def test_rivals_of_the_terms(views):
    config = LossConfig(
        contrast="sigmoid", negatives="all", cs_weight=0.4, cs_bandwidth=0.7, mmd_weight=0.0, sdd_queue=20
    )
    objective = Objective(config)
    losses = objective(views)
    assert set(losses) == {"loss", "clip", "cs", "sdd", "ssl_left", "ssl_right"}
    u, v, _, _, pairs, scale = views[:6]
    assert losses["clip"].item() == sigmoid_loss(u, v, scale, pairs, "all").item()
    assert losses["cs"].item() == CauchySchwarz(0.7)(u, v).item()
    contrastive = losses["clip"] + config.ssl_weight * (losses["ssl_left"] + losses["ssl_right"])
    expected = contrastive + 0.4 * losses["cs"] + config.sdd_weight * losses["sdd"]
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-12)
    sdd = SDD(queue=20)
    assert [sdd(u, v).item() for _ in range(2)] == [losses["sdd"].item(), objective(views)["sdd"].item()]


def test_options_reach_the_terms(views):
    config = loss_preset("released", ssl_temperature=0.2, mmd_degrees=[3], mmd_weights="learned")
    losses = Objective(config)(views)
    u, v, u_view, v_view, pairs, scale = views[:6]
    sdd = SDD(reduce="sum", constant=config.sdd_constant, rescale=True, rescale_max=1e6)
    expected = {
        "clip": clip_loss(u, v, scale, pairs, "all"),
        "mmd": MKMMD(bandwidths=[1.0], degrees=[3], weights="learned")(u, v),
        "sdd": sdd(u, v),
        "ssl_left": NTXent(0.2)(u, u_view),
        "ssl_right": NTXent(0.2)(v, v_view),
    }
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-12), name


RIVALS = {"contrast": "sigmoid", "cs_weight": 1.0, "sdd_queue": 4}


@pytest.mark.parametrize("rivals", [{}, RIVALS])
@pytest.mark.parametrize("preset", LOSS_PRESETS)
@pytest.mark.parametrize(
    ("n", "m", "pairs"), [(2, 2, 0), (2, 2, 1), (2, 2, 2), (1, 1, 0), (1, 1, 1), (5, 3, 2), (6, 6, 6)]
)
@pytest.mark.parametrize("collapsed", [False, True])
def test_small_and_collapsed_batches_are_finite(unit_rows, rivals, preset, n, m, pairs, collapsed):
    sizes = (n, m, n, m)
    rows = [
        unit_rows(1, 4).expand(size, 4) if collapsed else unit_rows(size, 4, i)
        for i, size in enumerate(sizes)
    ]
    rows = [r.float().clone().requires_grad_() for r in rows]
    scale = torch.tensor(14.0, requires_grad=True)
    objective = Objective(loss_preset(preset, **rivals))
    for _ in range(2 if rivals else 1):
        losses = objective(Views(*rows, n_pairs=pairs, scale=scale))
        losses["loss"].backward()
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    for leaf in (*rows, scale):
        assert leaf.grad.isfinite().all()
    if pairs == 0:
        assert losses["clip"].item() == 0.0


@pytest.mark.parametrize("preset", LOSS_PRESETS)
def test_blocks_change_nothing(views, preset):
    values, gradients = [], []
    for size in (0, 2):
        loss = Objective(loss_preset(preset, block_size=size))(views)["loss"]
        values.append(loss.item())
        gradients.append(torch.autograd.grad(loss, views.u)[0])
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_terms_of_weight_zero_are_not_computed(unit_rows):
    rows = unit_rows(4)
    clip = Objective(loss_preset("paper", objective="clip"))
    assert set(clip(Views(rows, rows, n_pairs=4, scale=5.0))) == {"loss", "clip"}
    only_mmd = Objective(LossConfig(clip_weight=0.0, sdd_weight=0.0))
    # The self-supervised terms are inside the contrastive ones and go with them.
    assert set(only_mmd(Views(rows, rows))) == {"loss", "mmd"}
    nothing = LossConfig(mmd_weight=0.0, mmd_bandwidths=(), mmd_degrees=())
    assert "mmd" not in Objective(nothing).terms


def test_further_terms(views):
    def spread(views):
        return views.u.square().mean()

    objective = Objective(LossConfig(), {"spread": Term(2.0, spread)})
    losses, plain = objective(views), Objective(LossConfig())(views)
    assert losses["loss"].item() == pytest.approx(plain["loss"].item() + 2 * losses["spread"].item())
    with pytest.raises(ConfigError, match="name is taken; got clip"):
        Objective(LossConfig(), {"clip": Term(1.0, spread)})
    with pytest.raises(ConfigError, match="weight of spread: out of range"):
        Objective(LossConfig(), {"spread": Term(-1.0, spread)})


def test_copies_are_independent_and_stateless(views):
    objective = Objective(LossConfig())
    twin = copy.deepcopy(objective)
    assert twin(views)["loss"].item() == objective(views)["loss"].item()
    assert not objective.state_dict()
    assert not list(objective.parameters())


def test_half_precision_under_autocast(unit_rows):
    rows = [unit_rows(16, 32, i).bfloat16().requires_grad_() for i in range(4)]
    objective = Objective(loss_preset("paper"))
    full = objective(Views(*[r.detach().float() for r in rows], n_pairs=8, scale=10.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = objective(Views(*rows, n_pairs=8, scale=10.0))
    assert {name: loss.item() for name, loss in half.items()} == {
        name: loss.item() for name, loss in full.items()
    }
    half["loss"].backward()
    assert all(r.grad.isfinite().all() for r in rows)


def test_gathering_in_one_process_changes_nothing(views):
    for before, after in zip(views, gather_views(views), strict=True):
        assert before is after or torch.equal(torch.as_tensor(before), torch.as_tensor(after))


def test_errors(unit_rows):
    rows = unit_rows(3)
    with pytest.raises(ConfigError, match="u_view: the self-supervised terms need augmented views"):
        Objective(LossConfig())(Views(rows, rows, n_pairs=1, scale=1.0))
    with pytest.raises(ConfigError, match="every term of the objective has weight 0"):
        Objective(LossConfig(mmd_weight=0.0, sdd_weight=0.0, clip_weight=0.0))


@pytest.mark.gpu
@pytest.mark.parametrize("rivals", [{}, RIVALS])
@pytest.mark.parametrize("preset", LOSS_PRESETS)
def test_gpu_equals_cpu(unit_rows, rivals, preset):
    results = []
    for device in ("cpu", "cuda"):
        rows = [unit_rows(n, 32, i).to(device).requires_grad_() for i, n in enumerate((40, 30, 40, 30))]
        objective = Objective(loss_preset(preset, **rivals)).to(device)
        objective(Views(*rows, n_pairs=10, scale=9.0))
        loss = objective(Views(*rows, n_pairs=10, scale=9.0))["loss"]
        results.append((loss.item(), torch.autograd.grad(loss, rows[0])[0].cpu()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-9)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-7, atol=1e-10)
