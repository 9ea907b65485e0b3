"""What the structure encoder promises: invariance, independence of batch mates, lengths, inputs, sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from protclip.errors import ConfigError
from protclip.structure.encoders.encoder import CDConvConfig, CDConvEncoder, NodeNorm
from protclip.structure.encoders.graph import collate_structures
from protclip.structure.protein import Protein


def chain(length: int, seed: int = 0) -> Protein:
    rng = np.random.default_rng(seed)
    xyz = np.zeros((length, 3))
    for i in range(1, length):
        step = rng.normal(size=3) - 0.15 * (xyz[i - 1] - xyz[:i].mean(0))
        xyz[i] = xyz[i - 1] + 3.8 * step / np.linalg.norm(step)
    return Protein.from_ca(f"p{seed}", "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)), xyz)


def trained(size: str = "tiny", **changes: Any) -> CDConvEncoder:
    """An encoder after one pass in training mode, so that its running statistics are of real features."""
    torch.manual_seed(0)
    encoder = CDConvEncoder(CDConvConfig.sized(size, **changes))
    with torch.no_grad():
        for _ in range(10):
            encoder(collate_structures([chain(50, 90), chain(80, 91)]))
    return encoder.eval()


def moved(protein: Protein, seed: int = 0) -> Protein:
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    coords = protein.coords.astype(np.float64) @ rotation.T + np.array([30.0, -70.0, 110.0])
    return replace(protein, coords=coords.astype(np.float32))


@pytest.mark.parametrize("kind", ["residues", "geometry"])
def test_rotation_and_translation_change_nothing(kind: str) -> None:
    encoder = trained("small", input=kind)
    proteins = [chain(n, n) for n in (1, 2, 3, 20, 64, 130)]
    with torch.no_grad():
        here, there = (encoder(collate_structures(p)) for p in (proteins, [moved(p) for p in proteins]))
    assert float((here - there).abs().max()) < 1e-4 * max(1.0, float(here.abs().max()))


def test_mirror_image_is_told_apart() -> None:
    encoder = trained(input="geometry")
    protein = chain(40)
    mirror = replace(protein, coords=-protein.coords)
    a, b = encoder(collate_structures([protein, mirror])).detach()
    assert float((a - b).norm()) > 1e-2 * float(a.norm())


def test_a_batch_equals_its_members_one_by_one() -> None:
    encoder = trained()
    proteins = [chain(n, n) for n in range(1, 65)]
    with torch.no_grad():
        together = encoder(collate_structures(proteins))
        alone = torch.cat([encoder(collate_structures([p])) for p in proteins])
        backwards = encoder(collate_structures(proteins[::-1])).flip(0)
    scale = max(1.0, float(alone.abs().max()))
    assert float((together - alone).abs().max()) < 1e-5 * scale
    assert float((backwards - alone).abs().max()) < 1e-5 * scale
    assert torch.isfinite(together).all()


def test_geometry_does_not_see_residue_types() -> None:
    protein = chain(30)
    other = replace(protein, sequence=protein.sequence[::-1])
    batch = collate_structures([protein, other])
    blind, seeing = trained(input="geometry")(batch).detach(), trained(input="residues")(batch).detach()
    assert torch.equal(blind[0], blind[1])
    assert float((seeing[0] - seeing[1]).norm()) > 1e-2 * float(seeing[0].norm())


def test_geometry_tells_structures_apart_before_training() -> None:
    torch.manual_seed(0)
    encoder = CDConvEncoder(CDConvConfig.sized("small", input="geometry"))
    for mode in (True, False):
        a, b = encoder.train(mode)(collate_structures([chain(40, 1), chain(40, 2)])).detach()
        assert float((a - b).norm()) > 1e-2 * float(a.norm())


def test_residue_features() -> None:
    encoder = trained()
    gap = chain(11, 1)
    gap.coords[[0, 5]] = np.nan
    proteins = [chain(9), gap, chain(1, 2)]
    batch = collate_structures(proteins)
    rows = encoder.encode_residues(batch)
    assert [tuple(r.shape) for r in rows] == [(n, encoder.residue_dim) for n in (9, 11, 1)]
    assert encoder.residue_dim == sum(encoder.config.channels)
    assert rows[1][[0, 5]].count_nonzero() == 0
    assert (rows[1][[1, 2, 3, 4, 6]].abs().sum(1) > 0).all()
    # Coarse features are shared by the residues of a node; the finest are their own.
    first, last = encoder.config.channels[0], encoder.config.channels[-1]
    assert torch.equal(rows[0][0, -last:], rows[0][7, -last:])
    assert not torch.equal(rows[0][0, :first], rows[0][1, :first])
    # The protein's vector is the mean over the coarsest nodes: residues 0-7 and residue 8.
    torch.testing.assert_close(encoder(batch)[0], rows[0][[0, 8], -last:].mean(0))


def test_gradients_reach_every_parameter() -> None:
    for kind in ("residues", "geometry"):
        torch.manual_seed(0)
        encoder = CDConvEncoder(CDConvConfig.sized("tiny", input=kind))
        encoder(collate_structures([chain(60), chain(45, 1)])).square().sum().backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.count_nonzero() > 0, name


def test_it_can_learn() -> None:
    torch.manual_seed(0)
    encoder = CDConvEncoder(CDConvConfig.sized("tiny", input="geometry"))
    head = torch.nn.Linear(encoder.out_dim, 2)
    batch = collate_structures([chain(30, seed) for seed in range(16)])
    label = torch.arange(16) % 2
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 3e-3)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(head(encoder(batch)), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1


@pytest.mark.parametrize("lengths", [[1], [2], [1, 1], [3, 1, 8]])
def test_training_takes_any_number_of_nodes(lengths: list[int]) -> None:
    torch.manual_seed(0)
    encoder = CDConvEncoder(CDConvConfig.sized("tiny")).train()
    result = encoder(collate_structures([chain(n, n) for n in lengths]))
    result.sum().backward()
    assert torch.isfinite(result).all()


def test_single_node_is_normalised_by_the_running_statistics() -> None:
    norm = NodeNorm(2)
    assert norm.running_mean is not None
    norm.running_mean += 1.0
    before = norm.running_mean.clone()
    got = norm.train()(torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(got, torch.tensor([[2.0, 0.0]]), rtol=1e-4, atol=1e-5)
    assert torch.equal(norm.running_mean, before)


def test_bfloat16_autocast_stays_close() -> None:
    encoder = trained("small")
    batch = collate_structures([chain(50), chain(1, 1), chain(33, 2)])
    exact = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch)
    rough.float().sum().backward()
    assert float((rough.float() - exact).detach().norm()) < 0.05 * float(exact.detach().norm())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in encoder.parameters())


def test_seed_decides_the_weights() -> None:
    config = CDConvConfig.sized("tiny")
    seeds = (1, 1, 2)
    one, same, other = (CDConvEncoder(config, generator=torch.Generator().manual_seed(s)) for s in seeds)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_sizes() -> None:
    parameters = {}
    for size in CDConvConfig.sizes:
        with torch.device("meta"):
            encoder = CDConvEncoder(CDConvConfig.sized(size))
        parameters[size] = sum(p.numel() for p in encoder.parameters())
        assert encoder.out_dim == encoder.config.channels[-1]
    assert parameters["tiny"] < 0.1e6
    assert 0.25e6 < parameters["small"] < 0.5e6
    published = CDConvConfig.sized("published")
    assert published.channels == (256, 512, 1024, 2048)
    assert published.widths == (128, 256, 512, 1024)
    weights = sum(2 * 24 * width * width for width in published.widths)
    assert weights < parameters["published"] < 1.25 * weights


def test_config_round_trip_and_errors() -> None:
    config = CDConvConfig.sized("small", input="geometry", window=5)
    assert CDConvConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["channels"] == [64, 96, 128, 192]
    for bad in ({"window": 4}, {"radii": (8.0,)}, {"dropout": 1.0}, {"channels": ()}, {"input": "both"}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            CDConvConfig.sized("tiny", **bad)
    with pytest.raises(ConfigError, match="'huge', expected tiny or small or published"):
        CDConvConfig.sized("huge")
    with pytest.raises(ConfigError, match="unknown entry; got depth"):
        CDConvConfig.from_dict({"depth": 3})


def test_a_batch_for_another_encoder_is_refused() -> None:
    encoder = CDConvEncoder(CDConvConfig.sized("tiny"))
    with pytest.raises(ConfigError, match="window 5, expected radii"):
        encoder(collate_structures([chain(5)], window=5))
