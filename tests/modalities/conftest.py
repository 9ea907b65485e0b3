"""Small ESM-2 checkpoints in fair-esm's own file format, with random weights."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import esm
import pytest
import torch


def fair_esm(layers: int, width: int, heads: int, seed: int = 0) -> Any:
    """fair-esm's network with random weights, also where its own start is zeros and ones."""
    torch.manual_seed(seed)
    net = esm.ESM2(layers, width, heads)
    with torch.no_grad():
        for value in net.parameters():
            if value.ndim == 1:
                value += 0.1 * torch.randn_like(value)
    return net.eval()


def save_checkpoint(net: Any, path: Path, **changes: Any) -> Path:
    """Write what fair-esm publishes: args, cfg, and weights under the names of the training code."""
    prefix = {"lm_head": "encoder.", "contact_head": "encoder."}
    weights = {
        prefix.get(name.split(".")[0], "encoder.sentence_encoder.") + name: value
        for name, value in net.state_dict().items()
        if not name.startswith("contact_head")
    }
    settings = Namespace(
        encoder_layers=net.num_layers,
        encoder_embed_dim=net.embed_dim,
        encoder_attention_heads=net.attention_heads,
        token_dropout=net.token_dropout,
    )
    torch.save({"args": Namespace(arch="esm2"), "cfg": {"model": settings}, "model": weights} | changes, path)
    return path


@pytest.fixture(scope="session")
def tiny_net() -> Any:
    """fair-esm's network, 2 layers of width 32 with 4 heads."""
    return fair_esm(2, 32, 4)


@pytest.fixture
def tiny_checkpoint(tiny_net: Any, tmp_path: Path) -> Path:
    """Its checkpoint file."""
    return save_checkpoint(tiny_net, tmp_path / "esm2_tiny.pt")


@pytest.fixture
def write_checkpoint() -> Callable[..., Path]:
    """:func:`save_checkpoint`."""
    return save_checkpoint


@pytest.fixture
def make_fair_esm() -> Callable[..., Any]:
    """:func:`fair_esm`."""
    return fair_esm
