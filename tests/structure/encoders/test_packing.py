"""A batch that went through one buffer is the batch that it was."""

from __future__ import annotations

import copy
import io
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from protclip.structure import Protein, StructureBatch, collate_structures
from protclip.structure.encoders.packing import ALIGN, flatten, outline_of, pack, unpack


@pytest.fixture
def batch() -> StructureBatch:
    rng = np.random.default_rng(0)
    chains = [np.cumsum(rng.normal(size=(n, 3)) * 2.2, 0) for n in (5, 1, 40)]
    return collate_structures([Protein.from_ca(f"p{i}", "A" * len(x), x) for i, x in enumerate(chains)])


def _tensors(value: StructureBatch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    flatten(value, found)
    return found


def same(a: StructureBatch, b: StructureBatch) -> None:
    assert (a.ids, a.lengths, a.radii, a.window) == (b.ids, b.lengths, b.radii, b.window)
    for x, y in zip(a.levels, b.levels, strict=True):
        assert x.neighbours.buckets == y.neighbours.buckets
    assert [level.finer is None for level in a.levels] == [level.finer is None for level in b.levels]
    for x, y in zip(_tensors(a), _tensors(b), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert torch.equal(x, y)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.bfloat16])
def test_every_shape_and_type_comes_back(shape, dtype):
    tensors = [torch.ones(7, dtype=torch.bool), torch.randint(0, 2, shape).to(dtype), torch.arange(9.0)[::2]]
    found = unpack(pack(tensors), outline_of(tensors))
    for a, b in zip(tensors, found, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert all(view.data_ptr() % ALIGN == found[0].data_ptr() % ALIGN for view in found if view.numel())


def test_pickled_batches_are_equal_and_one_tensor(batch):
    same(pickle.loads(pickle.dumps(batch)), batch)
    same(copy.deepcopy(batch), batch)
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(batch))))
    same(again, batch)
    storages = {tensor.untyped_storage().data_ptr() for tensor in _tensors(again)}
    assert len(storages) == 1
    stream = io.BytesIO()
    ForkingPickler(stream).dump(batch)
    assert stream.getvalue().count(b"rebuild_storage") <= 1


def test_batches_of_loader_workers_are_equal(batch):
    proteins = [Protein.from_ca("a", "AAAAA", np.cumsum(np.full((5, 3), 2.0), 0))]
    loader = DataLoader([proteins] * 3, batch_size=None, num_workers=1, collate_fn=collate_structures)
    for found in loader:
        same(found, collate_structures(proteins))


def test_transfer_to_another_device_keeps_shapes(batch):
    moved = batch.to("meta")
    for x, y in zip(_tensors(moved), _tensors(batch), strict=True):
        assert x.device.type == "meta"
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
    assert batch.to("cpu").residue_type is batch.residue_type


@pytest.mark.gpu
def test_pinned_batches_arrive_whole(batch):
    same(batch.pin_memory().to("cuda", non_blocking=True).to("cpu"), batch)
