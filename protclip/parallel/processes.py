"""Several processes as one: with `sharding`, the only file that knows torch.distributed.

Everything here does nothing, or returns its argument, in one process.

How gradients add up
--------------------
Every process computes the same loss over the same gathered rows, and data-parallel training averages the
parameters' gradients over the processes.  Seen as one function, that is the gradient of the mean of
the processes' losses, with every process depending on every process's rows.  The collectives below are
therefore differentiated as what they are: the gradient of a gathered row is the **sum** over all processes
of what each of them asks of it.  With W processes this is W times the one-process gradient, and the average
over processes (which adds up rows' contributions held by different processes, then divides by W) gives
the one-process gradient exactly.  A parameter used after the gathering, such as the temperature, has the
whole gradient on every process, and the average leaves it so.  The same holds for losses that each process
averages over its own equal share of the rows.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, 0 for the main one."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Number of processes.

    Examples
    --------
    >>> world_size(), rank(), is_main()
    (1, 0, True)
    """
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process writes files and the screen."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    if is_distributed():
        dist.barrier()


def broadcast_object(value: T, source: int = 0) -> T:
    """A picklable object of one process, on all of them.

    Examples
    --------
    >>> broadcast_object({"seed": 3})
    {'seed': 3}
    """
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=source)
    return box[0]


def gather_objects(value: T) -> list[T]:
    """A picklable object of every process, in order of rank.

    Examples
    --------
    >>> gather_objects("failed.tsv")
    ['failed.tsv']
    """
    if not is_distributed():
        return [value]
    boxes: list[Any] = [None] * world_size()
    dist.all_gather_object(boxes, value)
    return boxes


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum of the processes' tensors, without gradient.

    Examples
    --------
    >>> sum_over_processes(torch.tensor(2.0))
    tensor(2.)
    """
    result = tensor.detach().clone()
    if is_distributed():
        dist.all_reduce(result)
    return result


def gather_with_grad(tensor: Tensor) -> Tensor:
    """Rows of all processes, in order of rank, with gradients to all of them.

    Backward is the exact adjoint (see the head of this module); all processes have to run backward through
    the result, or none.

    Parameters
    ----------
    tensor : Tensor
        [n_r, ...]; the first dimension may differ between processes, also be 0, the others may not.

    Returns
    -------
    Tensor
        [sum of n_r, ...].

    Examples
    --------
    >>> gather_with_grad(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if not is_distributed():
        return tensor
    count = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    result: Tensor = _Gather.apply(tensor, [int(c) for c in counts])  # type: ignore[no-untyped-call]
    return result


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor, counts: list[int]) -> Tensor:
        start = sum(counts[: rank()])
        ctx.rows = slice(start, start + counts[rank()])  # type: ignore[attr-defined]
        # Collectives want equal shapes: fill up to the longest, and cut off again.
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        boxes = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(boxes, padded)
        return torch.cat([box[:count] for box, count in zip(boxes, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows], None


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Average the gradients of all trainable parameters over the processes, in place.

    What data-parallel wrappers do during backward, for a module used without one.  A parameter without
    gradient on some processes counts as zero there; one without gradient on all of them stays without.

    Parameters
    ----------
    module : nn.Module
        Same parameters, in the same order, on every process.
    """
    if not is_distributed():
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        return
    used = torch.tensor(
        [p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device
    )
    dist.all_reduce(used)
    kept = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
    for key in dict.fromkeys((p.device, p.dtype) for p in kept):
        group = [p for p in kept if (p.device, p.dtype) == key]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in group])
        dist.all_reduce(flat)
        flat /= world_size()
        for parameter, piece in zip(group, torch.split(flat, [p.numel() for p in group]), strict=True):
            parameter.grad = piece.view_as(parameter).clone()


class _OverAllProcesses(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the rows of all processes, on any device and backend.

    Same parameters, buffers and results as torch's class on the concatenated rows; processes may hold
    different numbers of rows.  In one process, and in evaluation, it is that class.  A single row over all
    processes is normalised to the bias instead of being refused.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, channels, ...]."""
        if not self.training or not is_distributed():
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        values = input if input.dtype == torch.float64 else input.float()
        count = values.new_full((1,), values.numel() // max(values.shape[1], 1))
        # Mean and squared deviations of each process, joined afterwards: one exchange, and none of the
        # cancellation of sums of squares.
        own_mean = values.sum(axes) / count.clamp_min(1)
        own_square = (values - own_mean.view(shape)).square().sum(axes)
        packed = torch.cat([count, own_mean, own_square])[None]
        parts: Tensor = _Gather.apply(packed, [1] * world_size())  # type: ignore[no-untyped-call]
        counts, means, squares = torch.split(parts, [1, self.num_features, self.num_features], 1)
        total = counts.sum().clamp_min(1)
        mean = (counts * means).sum(0) / total
        square = (squares + counts * (means - mean).square()).sum(0)
        self._track(mean.detach(), square.detach() / (total - 1).clamp_min(1))
        factor = (square / total + self.eps).rsqrt()
        offset: Tensor | None = None
        if self.affine:
            factor, offset = factor * self.weight, self.bias
        result = (values - mean.view(shape)) * factor.view(shape)
        if offset is not None:
            result = result + offset.view(shape)
        normalised: Tensor = result.to(input.dtype)
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.training or not self.track_running_stats:
            return
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class SyncBatchNorm1d(_OverAllProcesses, nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` over the rows of all processes: [n, channels] or [n, channels, length].

    Examples
    --------
    >>> SyncBatchNorm1d(3)(torch.randn(5, 3)).shape
    torch.Size([5, 3])
    """


class SyncBatchNorm2d(_OverAllProcesses, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` over the rows of all processes: [n, channels, height, width].

    Examples
    --------
    >>> SyncBatchNorm2d(3)(torch.randn(5, 3, 2, 2)).shape
    torch.Size([5, 3, 2, 2])
    """


_OVER_ALL = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d}


def convert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every ``BatchNorm1d`` and ``BatchNorm2d``, sub-classes included, by those above; tensors stay.

    Other normalisations are left as they are.  State dictionaries do not change.

    Parameters
    ----------
    module : nn.Module
        Changed in place.

    Returns
    -------
    nn.Module
        The module, or its replacement where it is one itself.

    Examples
    --------
    >>> type(convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(4)))[0]).__name__
    'SyncBatchNorm1d'
    """
    kind = next((ours for plain, ours in _OVER_ALL.items() if isinstance(module, plain)), None)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and kind and not isinstance(module, kind):
        twin = kind(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        # Tensors themselves: an optimiser built before the conversion keeps working.
        twin._parameters, twin._buffers = module._parameters, module._buffers
        twin.training = module.training
        return twin
    for name, child in module.named_children():
        setattr(module, name, convert_sync_batchnorm(child))
    return module
