"""Weights, gradients and optimiser state of large towers spread over the processes (fully sharded training).

Every block of a tower (an element of a ``ModuleList``) is kept in equal parts by all processes and put
together only while it computes.  What lies outside of blocks is small and stays whole on every process, under
the usual data parallel training.  Everything here does nothing, or returns its argument, where nothing is
sharded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from protclip.parallel.processes import is_distributed

SMALLEST = 50_000
"""Parameters of the smallest block that is worth spreading."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of the tensor.

    Examples
    --------
    >>> is_sharded(torch.ones(2))
    False
    """
    return hasattr(tensor, "full_tensor")


def shard_blocks(model: nn.Module, *, smallest: int = SMALLEST) -> int:
    """Spread every large block over the processes, in place; to be done before the optimiser is made.

    Parameters
    ----------
    model : nn.Module
        On its device, with the same weights on every process.
    smallest : int
        Blocks with fewer parameters stay whole.

    Returns
    -------
    int
        Number of blocks spread; 0 in one process.
    """
    if not is_distributed():
        return 0
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for each in lists for block in each if not isinstance(block, nn.ModuleList)]
    count = 0
    for block in blocks:
        if sum(p.numel() for p in block.parameters()) >= smallest:
            fully_shard(block, mesh=mesh)
            count += 1
    # Data parallel training must leave alone what is averaged part by part already.
    names = [name for name, p in model.named_parameters() if is_sharded(p)]
    parallel: Any = nn.parallel.DistributedDataParallel
    parallel._set_params_and_buffers_to_ignore_for_model(model, names)
    return count


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor; every process has to ask for it."""
    spread: Any = tensor
    full: Tensor = spread.full_tensor() if is_sharded(tensor) else tensor
    return full


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process holds, spread as ``like`` is."""
    if not is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    spread: Any = like
    part: Tensor = distribute_tensor(value.to(spread.device), spread.device_mesh, spread.placements)
    return part


def whole_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State of an optimiser with whole tensors; every process has to ask for it."""
    state = optimizer.state_dict()
    kept = {
        index: {key: whole(v) if isinstance(v, Tensor) else v for key, v in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": kept}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put back :func:`whole_optimizer`."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    spread = {
        index: {
            key: part_of(v, parameters[index]) if isinstance(v, Tensor) and v.ndim else v
            for key, v in values.items()
        }
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": spread})


def _local(tensor: Any) -> Tensor:
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return part


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their norm over all parameters is at most ``largest``.

    Returns
    -------
    Tensor
        The norm before.

    Examples
    --------
    >>> weight = nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_gradients([weight], 1.0), weight.grad.norm().round(decimals=3)
    (tensor(5.), tensor(1.))
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros(())
    local = [_local(g) for g in grads]
    squares = [part.float().square().sum() for part in local]
    total = torch.zeros_like(squares[0])
    parts = torch.zeros_like(total)
    for grad, square in zip(grads, squares, strict=True):
        if is_sharded(grad):
            parts += square
        else:
            total += square
    if is_distributed():
        dist.all_reduce(parts)
    norm = (total + parts).sqrt()
    factor = (largest / (norm + 1e-6)).clamp_max(1.0)
    for part in local:
        part.mul_(factor.to(part.dtype))
    return norm


def gather_blocks(model: nn.Module) -> None:
    """Make the model an ordinary one again, with whole weights on every process: each may go on alone.

    Every process has to ask for it, and none may train the model after it with its old optimiser.
    """
    for block in [module for module in model.modules() if hasattr(module, "set_reshard_after_forward")]:
        values = {name: (whole(p.detach()).clone(), p.requires_grad) for name, p in block.named_parameters()}
        block.__class__ = type(block).__mro__[2]  # what it was before it was spread
        for module in block.modules():
            for hooks in ("_forward_pre_hooks", "_forward_hooks", "_state_dict_pre_hooks"):
                getattr(module, hooks).clear()
            for hooks in ("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs"):
                getattr(module, hooks).clear()
            module._load_state_dict_pre_hooks.clear()
        for name, (value, trained) in values.items():
            owner, _, leaf = name.rpartition(".")
            setattr(block.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=trained))
