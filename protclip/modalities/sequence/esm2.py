"""ESM-2 as a packed, padding-free network over the published weights.

Parameter names are those of the published checkpoints. The language-model head and the contact head are
left out: embeddings need neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu
from torch.utils.checkpoint import checkpoint

from protclip.errors import ConfigError
from protclip.modalities.sequence.attention import Packing, attend

TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
"""The 33 tokens of ESM-2 in the order of its embedding matrix."""

CLS, PAD, EOS, MASK = (TOKENS.index(token) for token in ("<cls>", "<pad>", "<eos>", "<mask>"))

TRAINED_MASK_RATIO = 0.15 * 0.8
"""Share of tokens that were replaced by ``<mask>`` while ESM-2 was trained; its inputs are scaled by it."""


@dataclass(frozen=True)
class ESM2Shape:
    """Size of an ESM-2 network.

    Attributes
    ----------
    layers, width, heads : int
        Transformer blocks, channels, attention heads per block.
    token_dropout : bool
        Zero the embedding of ``<mask>`` and rescale the others, as all published ESM-2 models do.

    Raises
    ------
    ConfigError
        If the width is not an even multiple of the number of heads.
    """

    layers: int
    width: int
    heads: int
    token_dropout: bool = True

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.heads) < 1 or self.width % (2 * self.heads):
            raise ConfigError(
                "impossible ESM-2 shape",
                got=f"{self.layers} layers, width {self.width}, {self.heads} heads",
                expected="a width that is an even multiple of the number of heads",
            )


SHAPES = {
    "esm2_t6_8M_UR50D": ESM2Shape(6, 320, 20),
    "esm2_t12_35M_UR50D": ESM2Shape(12, 480, 20),
    "esm2_t30_150M_UR50D": ESM2Shape(30, 640, 20),
    "esm2_t33_650M_UR50D": ESM2Shape(33, 1280, 20),
    "esm2_t36_3B_UR50D": ESM2Shape(36, 2560, 40),
    "esm2_t48_15B_UR50D": ESM2Shape(48, 5120, 40),
    "scratch": ESM2Shape(3, 128, 8),
}
"""The published sizes, and one that trains from scratch on a CPU."""


def esm2_name(size: str) -> str:
    """Full name of an ESM-2 size: ``8M``, ``esm2_8M`` and ``esm2_t6_8M_UR50D`` are the same.

    Raises
    ------
    ConfigError
        If there is no such size.

    Examples
    --------
    >>> esm2_name("650M")
    'esm2_t33_650M_UR50D'
    """
    for name in SHAPES:
        short = name.split("_")[2] if "_" in name else name
        if size.lower() in (name.lower(), short.lower(), f"esm2_{short}".lower()):
            return name
    raise ConfigError(
        "unknown ESM-2 size", where="--sequence-encoder", got=repr(size), expected=", ".join(SHAPES)
    )


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj: nn.Module = nn.Linear(width, width)
        self.k_proj: nn.Module = nn.Linear(width, width)
        self.v_proj: nn.Module = nn.Linear(width, width)
        self.out_proj: nn.Module = nn.Linear(width, width)

    def forward(self, x: Tensor, packing: Packing, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Tokens [T, width] -> [T, width]."""
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        out: Tensor = self.out_proj(attend(rotate(q, rotation), rotate(k, rotation), v, packing).flatten(1))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.dropout = 0.0
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, packing: Packing, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Residual stream [T, width] -> [T, width]."""
        # Under autocast the normalised stream is cast once here instead of once per projection.
        h = self.self_attn_layer_norm(x).to(rotation[0].dtype)
        x = x + dropout(self.self_attn(h, packing, rotation), self.dropout, self.training)
        h = self.final_layer_norm(x).to(rotation[0].dtype)
        return x + dropout(self.fc2(gelu(self.fc1(h))), self.dropout, self.training)


class ESM2(nn.Module):
    """The ESM-2 trunk: packed tokens -> residue features.

    Parameters
    ----------
    shape : ESM2Shape
    dropout : float
        Of each block's two branches and the embedding, in training only. ESM-2 itself has none; two
        dropout draws make two views of one sequence for the self-supervised loss.
    checkpointing : bool
        Recompute each block in the backward pass: one block's memory for a third more time.

    Examples
    --------
    >>> net = ESM2(ESM2Shape(1, 16, 2)).eval()
    >>> tokens = torch.tensor([CLS, 5, 6, EOS, CLS, 5, EOS])
    >>> net(tokens, Packing.of([4, 3])).shape
    torch.Size([7, 16])
    """

    inv_freq: Tensor

    def __init__(self, shape: ESM2Shape, *, dropout: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(len(TOKENS), shape.width, padding_idx=PAD)
        self.layers = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.layers))
        self.emb_layer_norm_after = nn.LayerNorm(shape.width)
        # Kept with the weights: published files carry their own, which may be rounded to half precision.
        self.register_buffer("inv_freq", rotary_frequencies(shape.width // shape.heads))
        self.set_training(dropout=dropout, checkpointing=checkpointing)

    def forward(self, tokens: Tensor, packing: Packing) -> Tensor:
        """Final, layer-normed representations.

        Parameters
        ----------
        tokens : int64 tensor [T]
            Sequences one after the other, each ``<cls>``, residues, ``<eos>``.
        packing : Packing

        Returns
        -------
        float32 tensor [T, width]
        """
        x = self.embed(tokens, packing)
        x = dropout(x, self.dropout, self.training)
        rotation = self.rotation(packing, x)
        for layer in self.layers:
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, packing, rotation, use_reentrant=False)
            else:
                x = layer(x, packing, rotation)
        out: Tensor = self.emb_layer_norm_after(x)
        return out.float()

    def embed(self, tokens: Tensor, packing: Packing) -> Tensor:
        """Token embeddings [T, width], scaled for the share of masked tokens of each sequence."""
        x: Tensor = self.embed_tokens(tokens)
        if not self.shape.token_dropout:
            return x
        masked = tokens == MASK
        size = packing.starts.diff().to(x.dtype)
        count = torch.zeros_like(size).index_add_(0, packing.sequence, masked.to(x.dtype))
        scale = (1 - TRAINED_MASK_RATIO) / (1 - count / size)
        return x * (scale[packing.sequence] * ~masked)[:, None]

    def rotation(self, packing: Packing, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [T, 1, head width / 2] of the rotary angles, in the precision of the products."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        angle = packing.position[:, None].float() * self.inv_freq
        return angle.cos()[:, None].to(dtype), angle.sin()[:, None].to(dtype)

    def set_training(self, *, dropout: float, checkpointing: bool) -> None:
        """Change what holds in training only: dropout and recomputation."""
        if not 0 <= dropout < 1:
            raise ConfigError("out of range", where="dropout", got=str(dropout), expected="0 to 1")
        self.dropout, self.checkpointing = dropout, checkpointing
        for module in self.modules():
            if isinstance(module, Block):
                module.dropout = dropout

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> ESM2:
        """Draw fresh weights from ``generator`` (on the CPU): the initialisation of ESM-2's layers."""
        for name, value in self.named_parameters():
            if name == "embed_tokens.weight":
                # Rows of length one, of the size of what the first blocks add to them.
                value.normal_(std=self.shape.width**-0.5, generator=generator)
                value[PAD] = 0
            elif value.ndim == 2:
                nn.init.xavier_uniform_(value, 2**-0.5 if "_proj" in name else 1.0, generator)
            else:
                value.fill_(1.0 if "norm.weight" in name or "after.weight" in name else 0.0)
        self.inv_freq.copy_(rotary_frequencies(self.shape.width // self.shape.heads))
        return self


def rotary_frequencies(width: int) -> Tensor:
    """Angle per position [width / 2] of each rotated pair of channels."""
    exponent = torch.arange(0, width, 2, device="cpu").float() / width
    frequency: Tensor = 1.0 / 10000**exponent
    return frequency


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn channel pairs (c, c + width / 2) of [T, heads, width] by each token's angle."""
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def empty_esm2(shape: ESM2Shape) -> ESM2:
    """The network with memory but without values, for weights that are about to be loaded."""
    with torch.device("meta"):
        net = ESM2(shape)
    return net.to_empty(device="cpu")


def random_esm2(shape: ESM2Shape, seed: int = 0) -> ESM2:
    """The network with fresh weights; the same seed gives the same weights.

    Examples
    --------
    >>> a, b = (random_esm2(ESM2Shape(1, 16, 2), seed=3) for _ in range(2))
    >>> torch.equal(a.layers[0].fc1.weight, b.layers[0].fc1.weight)
    True
    """
    return empty_esm2(shape).reset(torch.Generator().manual_seed(seed))
