"""Items in, vectors out: the one inference path of validation, evaluation and embedding."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protclip.errors import ConfigError, ProtclipError
from protclip.modalities.base import CUDA_BATCH, Modality, budget_batches
from protclip.model import TwoTower

Done = Callable[[int], None]


def running_total(tell: Done) -> Done:
    """A callable that is told how many items were just done, and tells how many are done by now.

    Examples
    --------
    >>> done = running_total(print)
    >>> done(2), done(3)
    2
    5
    (None, None)
    """
    total = 0

    def add(n: int) -> None:
        nonlocal total
        total += n
        tell(total)

    return add


class Readable(NamedTuple):
    """One window of a stream, sorted into what can be used and what cannot.

    Attributes
    ----------
    ids, items : list
        Readable items in input order.
    failed : dict
        Id -> reason, for items that could not be read and for repeated ids.
    seen : int
        Items of the window, passed-over ones included.
    """

    ids: list[str]
    items: list[Any]
    failed: dict[str, str]
    seen: int


class SeenIds:
    """The ids of a stream so far, at sixteen bytes each whatever their length: a set of text takes a hundred.

    Digests of 128 bits stand for the ids; that two of them are equal by chance is out of the question.

    Examples
    --------
    >>> seen = SeenIds()
    >>> seen.add("1oaiA00")
    >>> "1oaiA00" in seen, "1ubiA00" in seen, len(seen)
    (True, False, 1)
    """

    RECENT = 1 << 14

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        # Sorted, each less than half as long as the one before: few to look into, and seldom merged.
        self._sorted: list[NDArray[np.bytes_]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))

    def __contains__(self, id: str) -> bool:
        return self._has(self._digest(id))

    def add(self, id: str) -> None:
        """Remember an id."""
        digest = self._digest(id)
        if self._has(digest):
            return
        self._recent.add(digest)
        if len(self._recent) == self.RECENT:
            run = np.sort(np.array(list(self._recent), "S16"))
            self._recent.clear()
            while self._sorted and len(self._sorted[-1]) < 2 * len(run):
                run = np.sort(np.concatenate([self._sorted.pop(), run]), kind="stable")
            self._sorted.append(run)

    @staticmethod
    def _digest(id: str) -> bytes:
        # The array forgets zeros at the end of an entry, and so does this.
        return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).digest().rstrip(b"\0")

    def _has(self, digest: bytes) -> bool:
        if digest in self._recent:
            return True
        for run in self._sorted:
            place = int(np.searchsorted(run, digest))
            if place < len(run) and run[place] == digest:
                return True
        return False


def readable_windows(
    source: Iterable[tuple[str, Any]], size: int, *, skip: Callable[[str], bool] = lambda id: False
) -> Iterator[Readable]:
    """Windows of ``size`` entries of a stream of (id, item or its error); ids must be unique.

    Parameters
    ----------
    skip : callable
        Ids for which it is True are passed over (done before).

    Examples
    --------
    >>> next(readable_windows([("a", 1), ("b", ProtclipError("bad")), ("a", 2)], 8)).failed
    {'b': 'bad', 'a (again)': 'the id stands twice in the input; only the first counts'}
    """
    seen = SeenIds()
    stream = iter(source)
    while chunk := list(itertools.islice(stream, size)):
        window = Readable([], [], {}, len(chunk))
        for id, item in chunk:
            if isinstance(item, Exception) and not isinstance(item, ProtclipError):
                raise item
            if id in seen:  # first, so that a bad record does not report its good namesake as failed
                window.failed[f"{id} (again)"] = "the id stands twice in the input; only the first counts"
            elif isinstance(item, ProtclipError):
                window.failed[id] = str(item)
            elif not skip(id):
                window.ids.append(id)
                window.items.append(item)
            seen.add(id)
        yield window


def pick_device(wish: str) -> torch.device:
    """``auto`` is CUDA where present, else the CPU; anything else is a torch device name.

    Raises
    ------
    ConfigError
        If the device does not exist here.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            "no such device here", where="--device", got=repr(wish), expected="auto, cpu, cuda or cuda:N"
        ) from error
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast on CUDA by default; ``fp32`` and ``bf16`` decide themselves."""
    use = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=use)


@torch.inference_mode()
def encode(
    modality: Modality[Any],
    items: Sequence[Any],
    forward: Callable[[Any], Tensor],
    *,
    device: torch.device,
    precision: str = "auto",
    done: Done = lambda n: None,
) -> NDArray[np.float32]:
    """Rows [len(items), d] of ``forward(batch)`` in the order of ``items``, computed in batches of like size.

    Parameters
    ----------
    modality : Modality
        Collates the items and knows their costs.
    items : sequence
    forward : callable
        Collated batch on ``device`` -> tensor [n, d].
    device, precision
        See :func:`pick_device` and :func:`autocast`.
    done : callable
        Told the number of items of each finished batch.
    """
    rows: NDArray[np.float32] | None = None
    costs = [modality.cost(item) for item in items]
    for index in budget_batches(costs, modality.budget * (CUDA_BATCH if device.type == "cuda" else 1)):
        batch = modality.collate([items[i] for i in index]).to(device)
        with autocast(device, precision):
            out = forward(batch).float().cpu().numpy()
        if rows is None:
            rows = np.empty((len(items), out.shape[1]), np.float32)
        rows[index] = out
        done(len(index))
    return np.zeros((0, 0), np.float32) if rows is None else rows


def embed_items(
    model: TwoTower,
    name: str,
    items: Sequence[Any],
    *,
    precision: str = "auto",
    done: Done = lambda n: None,
) -> NDArray[np.float32]:
    """Unit vectors [len(items), dim] of items of side ``name``; the model must be in evaluation mode."""
    device = model.log_scale.device
    return encode(
        model.sides[name],
        items,
        lambda b: model.embed(name, b),
        device=device,
        precision=precision,
        done=done,
    )


@torch.inference_mode()
def project_features(model: TwoTower, name: str, features: Tensor) -> NDArray[np.float32]:
    """Unit vectors [n, dim] of precomputed tower features [n, d] of side ``name``."""
    device = model.log_scale.device
    parts = [model.project(name, part.to(device)).cpu().numpy() for part in torch.split(features, 65536)]
    return np.concatenate(parts) if parts else np.zeros((0, model.dim), np.float32)
