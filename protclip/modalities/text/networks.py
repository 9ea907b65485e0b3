"""Networks that see short texts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from protclip.modalities.base import Encoder, TensorBatch
from protclip.modalities.text.wordpieces import SPECIAL
from protclip.modalities.transformers import TowerSize

_SCRATCH = {"model_type": "bert", "vocab_size": len(SPECIAL), "type_vocab_size": 1}

TEXT_TOWERS: dict[str, TowerSize] = {
    "tiny": TowerSize(
        network=_SCRATCH
        | {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    ),
    "small": TowerSize(
        network=_SCRATCH
        | {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    ),
    "bert-base": TowerSize("google-bert/bert-base-uncased", {"model_type": "bert"}),
}


class TextEncoder(Encoder):
    """BERT followed by the mean over tokens, or by its class token.

    Parameters
    ----------
    net : Module
        Of the transformers library.
    pool : {"mean", "cls"}
    """

    def __init__(self, net: Any, pool: str) -> None:
        super().__init__()
        self.net = net
        self.pool = pool
        self.out_dim = int(net.config.hidden_size)

    def tokens(self, batch: TensorBatch) -> Tensor:
        """Features [n, longest, out_dim] of all tokens, padding included."""
        ids, known = batch.tensors
        found: Tensor = self.net(input_ids=ids, attention_mask=known.long()).last_hidden_state
        return found

    def forward(self, batch: TensorBatch) -> Tensor:
        """Features [n, out_dim] of token numbers [n, longest] and which of them are tokens."""
        features = self.tokens(batch)
        if self.pool == "cls":
            return features[:, 0]
        weight = batch.tensors[1].to(features.dtype)[..., None]
        return (features * weight).sum(1) / weight.sum(1)
