"""Frames of residues against plain loops, and where they are not defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from protclip.structure.encoders.frames import pair_geometry, residue_frames, smooth_cutoff, unit


def norm(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def walk(length: int, seed: int = 0) -> torch.Tensor:
    steps = np.random.default_rng(seed).normal(size=(length, 3))
    return torch.from_numpy(np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0))


def loop_frame(x: np.ndarray, i: int) -> np.ndarray:
    """The formula for an inner residue."""
    before, after = norm(x[i] - x[i - 1]), norm(x[i + 1] - x[i])
    b, n = norm(before - after), norm(np.cross(before, after))
    return np.stack([b, n, norm(np.cross(b, n))])


def frames(
    xyz: torch.Tensor, position: list[int] | None = None, graph: list[int] | None = None
) -> torch.Tensor:
    return residue_frames(
        xyz,
        torch.arange(len(xyz)) if position is None else torch.tensor(position),
        torch.zeros(len(xyz), dtype=torch.long) if graph is None else torch.tensor(graph),
    )


def test_inner_residues_follow_the_formula_and_ends_copy() -> None:
    xyz = walk(9)
    got = frames(xyz).numpy()
    for i in range(1, 8):
        np.testing.assert_allclose(got[i], loop_frame(xyz.numpy(), i), atol=1e-12)
        np.testing.assert_allclose(got[i] @ got[i].T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[8], got[7])


@pytest.mark.parametrize("length", [1, 2])
def test_short_chains_have_no_frame(length: int) -> None:
    assert frames(walk(length)).count_nonzero() == 0


@pytest.mark.parametrize("lengths", [[1, 2, 3, 1, 5], [2, 2], [4, 1], [3, 3, 3], [1, 1, 1]])
def test_packed_chains_have_the_frames_they_have_alone(lengths: list[int]) -> None:
    chains = [walk(n, seed) for seed, n in enumerate(lengths)]
    graph = [g for g, n in enumerate(lengths) for _ in range(n)]
    packed = frames(torch.cat(chains), [i for n in lengths for i in range(n)], graph)
    torch.testing.assert_close(packed, torch.cat([frames(chain) for chain in chains]), rtol=0, atol=0)


def test_ends_at_a_gap_copy_within_their_stretch() -> None:
    xyz = walk(8)
    got = frames(xyz, [0, 1, 2, 3, 10, 11, 12, 13]).numpy()
    first, second = frames(xyz[:4]).numpy(), frames(xyz[4:]).numpy()
    np.testing.assert_array_equal(got, np.concatenate([first, second]))


def test_a_stretch_of_one_or_two_takes_the_frame_over_the_gap() -> None:
    xyz = walk(9)
    # Stretches of 3, 1, 3 and 2 residues.
    got = frames(xyz, [0, 1, 2, 5, 8, 9, 10, 20, 21]).numpy()
    np.testing.assert_allclose(got[3], loop_frame(xyz.numpy(), 3), atol=1e-12)
    np.testing.assert_allclose(got[7], loop_frame(xyz.numpy(), 7), atol=1e-12)
    np.testing.assert_array_equal(got[8], got[7])


def test_straight_and_coinciding_points_have_no_frame() -> None:
    line = torch.arange(6.0)[:, None] * torch.tensor([[2.1, 1.3, -0.7]])
    assert frames(line).abs().max() < 2e-3
    assert frames(torch.ones(6, 3)).count_nonzero() == 0


@pytest.mark.parametrize("kind", ["line", "point", "walk"])
def test_gradients_are_finite(kind: str) -> None:
    line = torch.arange(6.0)[:, None] * torch.ones(1, 3)
    xyz = {"line": line, "point": torch.zeros(6, 3), "walk": walk(6).float()}[kind].requires_grad_()
    frame = frames(xyz)
    pairs = torch.cartesian_prod(torch.arange(6), torch.arange(6)).T
    features = pair_geometry(xyz, frame, pairs[0], pairs[1], torch.ones(36), radius=8.0)
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert xyz.grad is not None
    assert torch.isfinite(xyz.grad).all()


def test_frames_turn_with_the_protein() -> None:
    xyz = walk(12)
    rotation, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    rotation *= torch.linalg.det(rotation)
    torch.testing.assert_close(frames(xyz @ rotation.T + 50), frames(xyz) @ rotation.T)


def test_pair_geometry_by_hand() -> None:
    xyz = torch.tensor([[0.0, 0, 0], [0, 3, 4]])
    frame = torch.stack([torch.eye(3), torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])])
    got = pair_geometry(
        xyz, frame, torch.tensor([0, 0]), torch.tensor([1, 0]), torch.tensor([0.5, 0.0]), radius=8.0
    )
    g = 0.5 - 0.5 * np.tanh(16 * (5 / 8) * 0.5 - 14)
    np.testing.assert_allclose(got[0], g * np.array([0, 0.6, 0.8, 0, 0, 0, 5, 1]), atol=1e-6)
    np.testing.assert_allclose(got[1], [0, 0, 0, 1, 1, 1, 0, 1], atol=1e-6)


def test_cutoff_values() -> None:
    distance = torch.tensor([0.0, 8.0, 8.0, 7.0])
    reach = torch.tensor([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(
        smooth_cutoff(distance, reach, radius=8.0), [1, 1, 0.5 - 0.5 * np.tanh(2), 0.5], atol=1e-6
    )


def test_unit_leaves_zero() -> None:
    assert unit(torch.zeros(2, 3)).count_nonzero() == 0
