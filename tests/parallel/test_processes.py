"""Collectives and batch normalisation of two gloo processes against one process."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from protclip.parallel import processes as distributed

WORKER = Path(__file__).with_name("distributed_worker.py")
specification = importlib.util.spec_from_file_location("distributed_worker", WORKER)
worker = importlib.util.module_from_spec(specification)
specification.loader.exec_module(worker)


@pytest.fixture(scope="module")
def found(run_on_two_processes):
    """What each of two processes found."""
    return run_on_two_processes(WORKER)


def test_who_is_who(found):
    assert [results["rank"] for results in found] == [(0, 2, True), (1, 2, False)]
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)


def test_objects_and_sums(found):
    for results in found:
        assert results["broadcast"] == {"seed": 1}
        assert results["objects"] == ["a", "b"]
        assert results["sum"].item() == 3.0


def test_gathering_uneven_rows_and_its_adjoint(found):
    for rank, results in enumerate(found):
        gathered = results["gathering"]
        assert gathered["whole"].tolist() == [[0, 1], [2, 3], [4, 5], [9, 9]]
        # Process 0 asks for 1 x the position, process 1 for 2 x.
        positions = [1, 2, 3] if rank == 0 else [4]
        assert gathered["grad"].tolist() == [[3.0 * p] * 2 for p in positions]
        assert gathered["empty"].shape == (2, 3)
        assert gathered["counts"].tolist() == [0, 1]
        assert gathered["half"].tolist() == [[0, 0], [1, 1]]
        assert gathered["half"].dtype == torch.bfloat16


def test_average_of_gradients(found):
    for results in found:
        averaged = results["averaging"]
        assert averaged["both"].item() == 1.5
        assert averaged["one"].item() == 4.0
        assert averaged["none"] is None
        assert averaged["fixed"] is None


@pytest.mark.parametrize("case", worker.NORM_CASES)
def test_batch_norm_equals_one_process(found, case):
    options, shapes = worker.NORM_CASES[case]
    steps = worker.norm_inputs(case)
    whole = worker.norm_run(worker.norm_layer(case), [torch.cat(step) for step in steps], lambda rows: rows)
    starts = [slice(0, shapes[0][0]), slice(shapes[0][0], None)]
    for results, own in zip(found, starts, strict=True):
        for name, value in results[case].items():
            expected = whole[name]
            if name.startswith("grad"):
                # Two processes ask for the same: the average over processes takes the factor back.
                expected = 2 * expected[own]
            elif name == "evaluated":
                if not options.get("track_running_stats", True):
                    continue  # statistics of the own rows, by definition
                expected = expected[own]
            torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10, msg=f"{case}: {name}")


def test_one_process_is_a_no_op():
    rows = torch.randn(4, 3, requires_grad=True)
    assert distributed.gather_with_grad(rows) is rows
    assert distributed.gather_objects(3) == [3]
    assert distributed.broadcast_object("x") == "x"
    distributed.barrier()
    layer = nn.Linear(2, 2)
    layer.weight.grad = torch.ones(2, 2)
    distributed.average_gradients(layer)
    assert torch.equal(layer.weight.grad, torch.ones(2, 2))
    total = distributed.sum_over_processes(rows)
    assert torch.equal(total, rows)
    assert not total.requires_grad


def test_one_process_batch_norm_is_the_plain_one():
    plain, ours = nn.BatchNorm1d(3), distributed.SyncBatchNorm1d(3)
    rows = torch.randn(6, 3)
    assert torch.equal(plain(rows), ours(rows))
    assert torch.equal(plain.running_var, ours.running_var)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ours(rows[:1])


def test_conversion_keeps_parameters_and_other_layers():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=0.2), nn.Sequential(nn.BatchNorm1d(3)))
    model.append(nn.BatchNorm2d(3)).append(nn.LayerNorm(3))
    model.eval()
    before = dict(model.named_parameters())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    converted = distributed.convert_sync_batchnorm(model)
    kinds = [type(layer).__name__ for layer in converted]
    assert kinds == ["Linear", "SyncBatchNorm1d", "Sequential", "SyncBatchNorm2d", "LayerNorm"]
    assert isinstance(converted[2][0], distributed.SyncBatchNorm1d)
    assert all(parameter is before[name] for name, parameter in converted.named_parameters())
    assert converted[1].momentum == 0.2
    assert not converted[1].training
    assert list(converted.state_dict()) == list(state)
    # Twice is once.
    assert distributed.convert_sync_batchnorm(converted)[1] is converted[1]
