"""The capped temperature: the values of a clamp, and a way back from above the cap."""

import math

import pytest
import torch

from protclip.model.capped import capped_exp


def test_up_to_the_cap_it_is_the_clamp_bit_for_bit():
    exponents = torch.linspace(-3.0, 4.6, 301, requires_grad=True)
    weights = torch.randn(301, generator=torch.Generator().manual_seed(0))
    clamped = exponents.exp().clamp(max=100.0)
    capped = capped_exp(exponents, 100.0)
    assert torch.equal(capped, clamped)
    expected = torch.autograd.grad((clamped * weights).sum(), exponents)[0]
    assert torch.equal(torch.autograd.grad((capped * weights).sum(), exponents)[0], expected)


@pytest.mark.parametrize("start", [math.log(100.0) + 1e-3, 7.0, 200.0])
def test_above_the_cap_only_the_way_down_is_open(start):
    exponent = torch.tensor(start, requires_grad=True)
    value = capped_exp(exponent, 100.0)
    assert value.item() == 100.0
    assert torch.autograd.grad(3.0 * capped_exp(exponent, 100.0), exponent)[0].item() == 300.0
    assert torch.autograd.grad(-3.0 * capped_exp(exponent, 100.0), exponent)[0].item() == 0.0


def test_a_scale_that_overstepped_comes_back_to_its_best_value():
    exponent = torch.nn.Parameter(torch.tensor(math.log(140.0)))
    optimizer = torch.optim.SGD([exponent], lr=1e-4)
    for _ in range(2000):
        optimizer.zero_grad()
        ((capped_exp(exponent, 100.0) - 60.0) ** 2 / 60.0).backward()
        optimizer.step()
    assert capped_exp(exponent, 100.0).item() == pytest.approx(60.0, rel=1e-3)


def test_gradients_below_the_cap():
    exponent = torch.tensor([0.3, 1.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: capped_exp(x, 50.0), exponent)
