"""Our packed ESM-2 against fair-esm's padded one, and against itself."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import esm
import pytest
import torch
from torch import Tensor

from protclip.errors import ConfigError
from protclip.modalities.sequence import esm2
from protclip.modalities.sequence.attention import Packing, attend, attend_in_runs, attend_padded
from protclip.modalities.sequence.esm2 import ESM2, SHAPES, TOKENS, ESM2Shape, esm2_name, random_esm2
from protclip.modalities.sequence.esm_weights import load_esm2
from protclip.modalities.sequence.lora import LoRALinear, add_lora
from protclip.modalities.sequence.tokens import collate_sequences

SEQUENCES = ["MKT<mask>LLA<mask>K", "ACDEFGHIKLMNPQRSTVWYXBUZO.-", "G", "<mask>", "MKVLAAGIVGLCAKAYLE" * 5]


def packed(sequences: list[str]) -> tuple[Tensor, Packing, Tensor]:
    """Tokens by fair-esm's own alphabet, packed, and as its padded batch."""
    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    _, _, padded = alphabet.get_batch_converter()([("", s) for s in sequences])
    lengths = [int(n) for n in (padded != alphabet.padding_idx).sum(1)]
    return torch.cat([row[:n] for row, n in zip(padded, lengths, strict=True)]), Packing.of(lengths), padded


@pytest.fixture
def ours(tiny_checkpoint: Path) -> ESM2:
    return load_esm2(tiny_checkpoint)[0].eval()


def test_tokens_are_those_of_fair_esm() -> None:
    assert list(TOKENS) == esm.data.Alphabet.from_architecture("ESM-1b").all_toks


@torch.no_grad()
def test_equals_fair_esm_with_masks_rare_letters_and_padding(tiny_net: Any, ours: ESM2) -> None:
    tokens, packing, padded = packed(SEQUENCES)
    expected = tiny_net(padded, repr_layers=[2])["representations"][2]
    for got, row in zip(ours(tokens, packing).split(packing.lengths), expected, strict=True):
        torch.testing.assert_close(got, row[: len(got)], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["esm2_t6_8M_UR50D", pytest.param("esm2_t12_35M_UR50D", marks=pytest.mark.slow)]
)
def test_equals_fair_esm_at_published_sizes(
    name: str, make_fair_esm: Callable[..., Any], write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    shape = SHAPES[name]
    theirs = make_fair_esm(shape.layers, shape.width, shape.heads)
    net, provenance = load_esm2(write_checkpoint(theirs, tmp_path / f"{name}.pt"), name)
    assert provenance.name == name
    tokens, packing, padded = packed(SEQUENCES[:2])
    expected = theirs(padded, repr_layers=[shape.layers])["representations"][shape.layers]
    for got, row in zip(net.eval()(tokens, packing).split(packing.lengths), expected, strict=True):
        torch.testing.assert_close(got, row[: len(got)], atol=1e-5, rtol=0)


@torch.no_grad()
def test_reads_what_fair_esm_reads(tiny_checkpoint: Path, ours: ESM2) -> None:
    """The file of the fixture is a checkpoint to fair-esm too, so the format is its own."""
    from esm.pretrained import load_model_and_alphabet_core
    from torch.serialization import safe_globals

    from protclip.modalities.sequence.esm_checkpoint import read_checkpoint

    with safe_globals([Namespace]):
        data = torch.load(tiny_checkpoint, weights_only=True)
    with pytest.warns(UserWarning, match="Regression weights"):
        theirs, _ = load_model_and_alphabet_core("esm2_tiny", data, None)
    assert read_checkpoint(tiny_checkpoint).shape == ESM2Shape(2, 32, 4)
    torch.testing.assert_close(
        ours.state_dict()["layers.1.fc1.weight"], theirs.layers[1].fc1.weight, atol=0, rtol=0
    )


@torch.no_grad()
def test_without_token_dropout_masks_keep_their_embedding(
    make_fair_esm: Callable[..., Any], write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    theirs = make_fair_esm(2, 32, 4)
    theirs.token_dropout = False
    net = load_esm2(write_checkpoint(theirs, tmp_path / "plain.pt"))[0].eval()
    tokens, packing, padded = packed(SEQUENCES[:1])
    expected = theirs(padded, repr_layers=[2])["representations"][2][0]
    torch.testing.assert_close(net(tokens, packing), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_result_is_independent_of_batch_mates(ours: ESM2) -> None:
    tokens, packing, _ = packed(SEQUENCES)
    together = ours(tokens, packing).split(packing.lengths)
    for sequence, got in zip(SEQUENCES, together, strict=True):
        alone, alone_packing, _ = packed([sequence])
        torch.testing.assert_close(got, ours(alone, alone_packing), atol=2e-6, rtol=0)


@torch.no_grad()
def test_bf16_autocast_is_close_and_returns_float32(ours: ESM2) -> None:
    tokens, packing, _ = packed(SEQUENCES)
    exact = ours(tokens, packing)
    with torch.autocast("cpu", torch.bfloat16):
        rough = ours(tokens, packing)
    assert rough.dtype == torch.float32
    error = (rough - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def slow_attention(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    out = torch.empty_like(q)
    start = 0
    for n in lengths:
        for head in range(q.shape[1]):
            for i in range(start, start + n):
                score = torch.stack([q[i, head] @ k[j, head] for j in range(start, start + n)])
                weight = torch.softmax(score / math.sqrt(q.shape[2]), 0)
                out[i, head] = weight @ v[start : start + n, head]
        start += n
    return out


@pytest.mark.parametrize("lengths", [[3], [1], [2, 2, 2], [4, 1, 1, 3], [5, 2]])
@pytest.mark.parametrize("path", [attend, attend_in_runs, attend_padded])
def test_attention_equals_loops(path: Callable[..., Tensor], lengths: list[int]) -> None:
    q, k, v = torch.randn(
        3, sum(lengths), 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    torch.testing.assert_close(path(q, k, v, Packing.of(lengths)), slow_attention(q, k, v, lengths))


@pytest.mark.parametrize("path", [attend_in_runs, attend_padded])
def test_attention_gradient(path: Callable[..., Tensor]) -> None:
    packing = Packing.of([3, 3, 1, 2])
    x = torch.randn(
        3, 9, 1, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda x: path(x[0], x[1], x[2], packing), (x,))


def test_checkpointing_changes_nothing() -> None:
    tokens, packing, _ = packed(SEQUENCES[:3])
    gradients = []
    for recompute in (False, True):
        net = random_esm2(ESM2Shape(2, 32, 4), seed=1).train()
        net.set_training(dropout=0.2, checkpointing=recompute)
        torch.manual_seed(5)
        net(tokens, packing).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_dropout_acts_in_training_only() -> None:
    tokens, packing, _ = packed(SEQUENCES[:2])
    net = random_esm2(ESM2Shape(1, 16, 2))
    net.set_training(dropout=0.3, checkpointing=False)
    assert not torch.equal(net.train()(tokens, packing), net(tokens, packing))
    assert torch.equal(net.eval()(tokens, packing), net(tokens, packing))


def test_lora_starts_without_effect_and_trains_alone(ours: ESM2) -> None:
    tokens, packing, _ = packed(SEQUENCES[:2])
    before = ours(tokens, packing)
    plain = {name: value.clone() for name, value in ours.state_dict().items()}
    add_lora(ours, rank=3, alpha=6.0)
    assert torch.equal(before, ours(tokens, packing))
    state = ours.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.items())
    ours(tokens, packing).square().sum().backward()
    trained = {name for name, p in ours.named_parameters() if p.grad is not None}
    assert trained == {name for name in state if "lora_" in name}
    assert len(trained) == 2 * 4 * 2  # layers x projections x (A, B)


def test_lora_update_is_the_product_of_its_factors() -> None:
    layer = LoRALinear(5, 4, rank=2, alpha=6.0, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.lora_a.normal_(generator=generator)
        layer.lora_b.normal_(generator=generator)
    x = torch.randn(3, 5, generator=generator)
    merged = layer.weight + 3.0 * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(x), x @ merged.T + layer.bias)


def test_random_weights_follow_the_seed_and_are_all_set() -> None:
    a, b, c = (random_esm2(SHAPES["scratch"], seed) for seed in (1, 1, 2))
    for name, value in a.state_dict().items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, b.state_dict()[name]), name
    assert not torch.equal(a.embed_tokens.weight, c.embed_tokens.weight)
    assert not a.embed_tokens.weight[esm2.PAD].any()


def test_scratch_network_learns() -> None:
    """It can overfit: tell apart sequences that differ in the order of their residues alone."""
    batch = collate_sequences(["MKTAYIAKQR", "RQKAIYATKM", "AKMTIYKARQ", "YAIKATMKRQ"])
    net = random_esm2(ESM2Shape(1, 32, 4), seed=0).train()
    head = torch.nn.Linear(32, 4)
    torch.nn.init.zeros_(head.weight)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(40):
        mean = torch.stack([x.mean(0) for x in net(batch.tokens, batch.packing).split(batch.packing.lengths)])
        loss = torch.nn.functional.cross_entropy(head(mean), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("size", ["650M", "esm2_650M", "ESM2_t33_650M_UR50D"])
def test_sizes_have_short_names(size: str) -> None:
    assert esm2_name(size) == "esm2_t33_650M_UR50D"


def test_unknown_size_and_impossible_shape() -> None:
    with pytest.raises(ConfigError, match=r"unknown ESM-2 size; got '7M', expected esm2_t6_8M_UR50D"):
        esm2_name("7M")
    with pytest.raises(ConfigError, match="impossible ESM-2 shape; got 1 layers, width 30, 4 heads"):
        ESM2Shape(1, 30, 4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cuda_equals_cpu(precision: str, ours: ESM2) -> None:
    tokens, packing, _ = packed(SEQUENCES)
    cpu = ours(tokens, packing).detach()
    net = ours.cuda().train()
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        out = net(tokens.cuda(), packing.map(lambda x: x.cuda()))
        out.square().sum().backward()
    error = (out.detach().cpu() - cpu).norm() / cpu.norm()
    assert error < (0.02 if precision == "bf16" else 1e-4)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
