"""An exponential with an upper bound that can be left again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def capped_exp(exponent: Tensor, cap: float) -> Tensor:
    """``min(exp(exponent), cap)``, whose gradient above the cap still lowers the exponent.

    A plain clamp has no gradient above the cap, so that an exponent that oversteps it stays there for good.
    Here a gradient step that would lower the exponent passes as if it stood at the cap, and one that would
    raise it further does not.  Below and at the cap, value and gradient are those of the clamp.

    Parameters
    ----------
    exponent : Tensor
        Of any shape.
    cap : float

    Returns
    -------
    Tensor
        Of the same shape.

    Examples
    --------
    >>> x = torch.tensor([0.0, 9.0], requires_grad=True)
    >>> capped_exp(x, 100.0).tolist()
    [1.0, 100.0]
    >>> torch.autograd.grad(capped_exp(x, 100.0).sum(), x)[0].tolist()
    [1.0, 100.0]
    >>> torch.autograd.grad(-capped_exp(x, 100.0).sum(), x)[0].tolist()
    [-1.0, 0.0]
    """
    result: Tensor = _CappedExp.apply(exponent, cap)  # type: ignore[no-untyped-call]
    return result


class _CappedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, exponent: Tensor, cap: float) -> Tensor:
        value = exponent.exp()
        result = value.clamp(max=cap)
        ctx.save_for_backward(value > cap, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        above, result = ctx.saved_tensors
        return torch.where(above, grad.clamp(min=0.0), grad) * result, None
