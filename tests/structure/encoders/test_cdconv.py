"""The operator and the whole network against the formulas in plain loops, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from protclip.structure.encoders import cdconv
from protclip.structure.encoders.cdconv import CDConv, edge_features
from protclip.structure.encoders.encoder import CDConvConfig, CDConvEncoder
from protclip.structure.encoders.graph import StructureBatch, collate_structures
from protclip.structure.protein import Protein

Array = np.ndarray[Any, np.dtype[np.float64]]
LETTERS = "ACDEFGHIKLMNPQRSTVWYX"


def chain(length: int, seed: int = 0, number: list[int] | None = None) -> Protein:
    """A compact random walk, its gaps as in the numbers."""
    rng = np.random.default_rng(seed)
    xyz = np.zeros((length, 3))
    for i in range(1, length):
        step = rng.normal(size=3) - 0.15 * (xyz[i - 1] - xyz[:i].mean(0))
        gap = 1 if number is None else number[i] - number[i - 1]
        xyz[i] = xyz[i - 1] + (3.8 if gap == 1 else 6.0) * step / np.linalg.norm(step)
    letters = "".join(rng.choice(list(LETTERS + "B"), length))
    return Protein.from_ca(f"p{seed}", letters, xyz, None if number is None else np.array(number))


# The formulas, one residue and one pair at a time.


def norm(v: Array) -> Array:
    length = float(np.linalg.norm(v))
    return v / length if length > 0 else v


def slow_frames(xyz: Array, position: list[int]) -> Array:
    """Gapless chains, or gaps that leave at least three residues on either side."""
    n = len(xyz)
    frames = np.zeros((n, 3, 3))
    if n < 3:
        return frames
    ends = []
    for i in range(n):
        if i in (0, n - 1) or position[i] - position[i - 1] > 1 or position[i + 1] - position[i] > 1:
            ends.append(i)
            continue
        u2, u1 = norm(xyz[i] - xyz[i - 1]), norm(xyz[i + 1] - xyz[i])
        b = norm(u2 - u1)
        n_ = norm(np.cross(u2, u1))
        frames[i] = [b, n_, norm(np.cross(b, n_))]
    for i in ends:
        starts_here = i == 0 or position[i] - position[i - 1] > 1
        frames[i] = frames[i + 1] if starts_here else frames[i - 1]
    return frames


def slow_conv(x: Array, xyz: Array, frames: Array, position: list[int], conv: CDConv, radius: float) -> Array:
    kernel_weight = conv.kernel_weight.detach().double().numpy()
    kernel_bias = conv.kernel_bias.detach().double().numpy()
    weight = conv.weight.detach().double().numpy()
    half = len(kernel_weight) // 2
    out = np.zeros((len(x), weight.shape[1]))
    for i in range(len(x)):
        total = np.zeros((kernel_weight.shape[2], x.shape[1]))
        for j in range(len(x)):
            d = float(np.linalg.norm(xyz[j] - xyz[i]))
            if d > radius:
                continue
            s = min(max(position[j] - position[i], -half), half)
            edge = np.concatenate(
                [frames[i] @ norm(xyz[j] - xyz[i]), [frames[i][r] @ frames[j][r] for r in range(3)], [d]]
            )
            k = edge @ kernel_weight[s + half] + kernel_bias[s + half]
            k = np.where(k > 0, k, 0.2 * k)
            g = 0.5 - 0.5 * np.tanh(16 * (d / radius) * (abs(s) / half if half else 0.0) - 14)
            total += g * np.outer(k, x[j])
        out[i] = total.reshape(-1) @ weight
    return out


def slow_norm_act(x: Array, norm_layer: torch.nn.BatchNorm1d) -> Array:
    mean, var = norm_layer.running_mean, norm_layer.running_var
    assert mean is not None
    assert var is not None
    x = (x - mean.double().numpy()) / np.sqrt(var.double().numpy() + norm_layer.eps)
    x = x * norm_layer.weight.detach().double().numpy() + norm_layer.bias.detach().double().numpy()
    return np.where(x > 0, x, 0.1 * x)


def slow_project(x: Array, module: Any) -> Array:
    parts = list(module)
    if isinstance(parts[0], torch.nn.BatchNorm1d):
        x = slow_norm_act(x, parts[0])
    return x @ parts[-1].weight.detach().double().numpy().T


def slow_encoder(protein: Protein, encoder: CDConvEncoder) -> Array:
    """Evaluation mode, one protein."""
    config = encoder.config
    table = encoder.embedding.weight.detach().double().numpy()
    types = [LETTERS.index(c) if c in LETTERS else LETTERS.index("X") for c in protein.sequence]
    x = table[types if config.input == "residues" else [0] * len(types)]
    xyz = protein.ca.astype(np.float64)
    position = protein.position.tolist()
    frames = slow_frames(xyz, position)
    for depth, (stage, radius) in enumerate(zip(encoder.stages, config.radii, strict=True)):
        if depth:
            groups: dict[int, list[int]] = {}
            for i, p in enumerate(position):
                groups.setdefault(p // 2, []).append(i)
            position = list(groups)
            x = np.stack([x[m].mean(0) for m in groups.values()])
            xyz = np.stack([xyz[m].mean(0) for m in groups.values()])
            frames = np.stack([[norm(row) for row in frames[m].mean(0)] for m in groups.values()])
        for block in stage:  # type: ignore[attr-defined]
            inner = slow_conv(slow_project(x, block.down), xyz, frames, position, block.conv, radius)
            straight = x if isinstance(block.shortcut, torch.nn.Identity) else slow_project(x, block.shortcut)
            x = slow_project(inner, block.up) + straight
    return x.mean(0)


def randomised(config: CDConvConfig, seed: int = 0) -> CDConvEncoder:
    """An encoder in evaluation mode whose statistics and biases are not at their start values."""
    generator = torch.Generator().manual_seed(seed)
    encoder = CDConvEncoder(config, generator=generator).eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            torch.nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return encoder


def operator(conv: CDConv, x: torch.Tensor, batch: StructureBatch, level: int = 0) -> torch.Tensor:
    at = batch.levels[level]
    features = edge_features(at, radius=batch.radii[level], window=batch.window, dtype=conv.weight.dtype)
    return conv(x, features, at.neighbours)


@pytest.mark.parametrize("length", [1, 2, 3, 17])
@pytest.mark.parametrize(("window", "kernel"), [(21, 5), (5, 1), (1, 3)])
def test_operator_equals_the_formula(length: int, window: int, kernel: int) -> None:
    protein = chain(length, seed=3)
    batch = collate_structures([protein], radii=[9.0], window=window)
    generator = torch.Generator().manual_seed(0)
    conv = CDConv(4, 6, kernel_channels=kernel, window=window, generator=generator).double()
    x = torch.randn(length, 4, dtype=torch.float64, generator=generator)
    xyz, position = protein.ca.astype(np.float64), protein.position.tolist()
    expected = slow_conv(x.numpy(), xyz, slow_frames(xyz, position), position, conv, 9.0)
    got = operator(conv, x, batch).detach().numpy()
    # The batch holds positions and frames in single precision.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("kind", ["residues", "geometry"])
def test_network_equals_the_formulas(kind: str) -> None:
    config = CDConvConfig(
        channels=(12, 16, 20, 24),
        kernel_channels=3,
        window=5,
        embedding_dim=6,
        input=kind,
        dropout=0.3,  # type: ignore[arg-type]
    )
    encoder = randomised(config)
    numbers = [*range(1, 8), *range(30, 40)]
    proteins = [chain(19), chain(2, 1), chain(17, 2, numbers), chain(1, 3)]
    batch = collate_structures(proteins, window=5)
    got = encoder(batch).detach().numpy()
    expected = np.stack([slow_encoder(protein, encoder) for protein in proteins])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    double = encoder.double()(batch).detach().numpy()
    np.testing.assert_allclose(double, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def tiny_problem() -> tuple[CDConv, torch.Tensor, StructureBatch]:
    batch = collate_structures([chain(7), chain(1, 1), chain(4, 2)], radii=[8.0], window=3)
    generator = torch.Generator().manual_seed(1)
    conv = CDConv(2, 3, kernel_channels=2, window=3, generator=generator).double()
    x = torch.randn(12, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    return conv, x, batch


@pytest.mark.parametrize("block_bytes", [2**26, 5 * 2 * 2 * 8])
def test_gradients(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The small block splits the nodes in three, within and across buckets.
    monkeypatch.setitem(cdconv.BLOCK_BYTES, "cpu", block_bytes)
    conv, x, batch = tiny_problem()
    names = ("kernel_weight", "kernel_bias", "weight")
    weights = [getattr(conv, name).detach().requires_grad_() for name in names]
    features = edge_features(batch.levels[0], radius=8.0, window=3, dtype=torch.float64).requires_grad_()

    def call(x: torch.Tensor, features: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        args = (x, features, batch.levels[0].neighbours)
        return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), args)

    # One row of features per offset is enough; padding rows are not independent inputs.
    assert torch.autograd.gradcheck(lambda x, *v: call(x, features.detach(), *v), (x, *weights))
    call(x, features, *weights).square().sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_gradient_of_geometry() -> None:
    conv, x, batch = tiny_problem()
    edges = batch.levels[0].neighbours
    base = edge_features(batch.levels[0], radius=8.0, window=3, dtype=torch.float64)
    some = base.view(-1, 8)[edges.real][::5].clone().requires_grad_()
    rows = edges.real.nonzero()[::5, 0]

    def call(values: torch.Tensor) -> torch.Tensor:
        features = base.view(-1, 8).index_copy(0, rows, values).view_as(base)
        return conv(x.detach(), features, edges)

    assert torch.autograd.gradcheck(call, (some,))


def test_only_wanted_gradients() -> None:
    conv, x, batch = tiny_problem()
    conv.weight.requires_grad_(False)
    operator(conv, x.detach(), batch).sum().backward()
    assert conv.weight.grad is None
    assert conv.kernel_weight.grad is not None
    conv.requires_grad_(False)
    operator(conv, x, batch).sum().backward()
    assert x.grad is not None


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate_structures([chain(60), chain(33, 1)])
    conv = CDConv(8, 8, kernel_channels=4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(93, 8, generator=torch.Generator().manual_seed(1))
    results = []
    for size in (2**26, 10 * 4 * 8 * 4):
        monkeypatch.setitem(cdconv.BLOCK_BYTES, "cpu", size)
        conv.zero_grad()
        y = operator(conv, x, batch)
        y.square().sum().backward()
        assert conv.weight.grad is not None
        results.append((y.detach(), conv.weight.grad.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_same_bits_twice() -> None:
    batch = collate_structures([chain(60), chain(33, 1)])
    conv = CDConv(8, 8, kernel_channels=4, generator=torch.Generator().manual_seed(0))
    grads = []
    for _ in range(2):
        x = torch.randn(93, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        conv.zero_grad()
        operator(conv, x, batch).square().sum().backward()
        grads.append([x.grad, *[p.grad.clone() for p in conv.parameters() if p.grad is not None]])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_initial_scale_is_kept() -> None:
    batch = collate_structures([chain(200, seed) for seed in range(2)])
    conv = CDConv(64, 64, generator=torch.Generator().manual_seed(0))
    y = operator(conv, torch.randn(400, 64, generator=torch.Generator().manual_seed(1)), batch)
    assert 0.2 < float(y.detach().std()) < 5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_equals_cpu(dtype: torch.dtype) -> None:
    batch = collate_structures([chain(60), chain(1, 1), chain(33, 2)])
    encoder = randomised(CDConvConfig.sized("small", dropout=0.0))
    tolerance = 1e-3 if dtype == torch.float32 else 5e-2
    results = []
    for device in ("cpu", "cuda"):
        encoder.to(device).zero_grad()
        with torch.autocast(device, dtype, enabled=device == "cuda" and dtype != torch.float32):
            y = encoder(batch.to(device))
        y.float().square().sum().backward()
        results.append([y.float().detach().cpu(), *[p.grad.cpu().clone() for p in encoder.parameters()]])
    for cpu, gpu in zip(*results, strict=True):
        assert float((cpu - gpu).norm()) <= tolerance * float(cpu.norm()) + 1e-6
