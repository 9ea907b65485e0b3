"""ESM-2 weights on disk: fair-esm's checkpoint files and Hugging Face folders."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from protclip.errors import ConfigError, WeightsError
from protclip.modalities.sequence.esm2 import ESM2, SHAPES, ESM2Shape, rotary_frequencies
from protclip.work.fingerprint import file_digest

MEND = "Delete the file and fetch it again, or give another one with --esm-weights"
UNUSED = re.compile(r"(lm_head|contact_head|pooler|.*position_ids$|.*position_embeddings)")
ROTARY = re.compile(r"layers\.\d+\.self_attn\.rot_emb\.inv_freq$|.*rotary_embeddings\.inv_freq$")

HUGGING_FACE = (
    (r"^esm\.", ""),
    (r"^embeddings\.word_embeddings\.", "embed_tokens."),
    (r"^encoder\.emb_layer_norm_after\.", "emb_layer_norm_after."),
    (r"^encoder\.layer\.(\d+)\.attention\.LayerNorm\.", r"layers.\1.self_attn_layer_norm."),
    (r"^encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.", r"layers.\1.self_attn.\2_proj."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"layers.\1.self_attn.out_proj."),
    (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"layers.\1.fc1."),
    (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"layers.\1.fc2."),
    (r"^encoder\.layer\.(\d+)\.LayerNorm\.", r"layers.\1.final_layer_norm."),
    (r"norm\.gamma$", "norm.weight"),  # some releases of transformers write these old names
    (r"norm\.beta$", "norm.bias"),
    (r"\.query_proj\.", ".q_proj."),
    (r"\.key_proj\.", ".k_proj."),
    (r"\.value_proj\.", ".v_proj."),
)
"""Hugging Face's parameter names -> the published ones, applied in order."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights of an ESM-2 trunk under their published names.

    Attributes
    ----------
    shape : ESM2Shape
    weights : dict of str to Tensor
        As :meth:`protclip.modalities.sequence.esm2.ESM2.state_dict`.
    """

    shape: ESM2Shape
    weights: dict[str, Tensor]

    @property
    def name(self) -> str:
        """Published name of the size, or ``custom``."""
        return next((name for name, shape in SHAPES.items() if shape == self.shape), "custom")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a fair-esm ``.pt`` file or a Hugging Face folder (``config.json`` with ``*.safetensors``).

    Nothing in the file is executed. Checksums inside the file, names, sizes and finiteness are verified.

    Raises
    ------
    WeightsError
        If the file is missing, truncated, damaged, of another model, or incomplete.
    """
    if path.is_dir():
        shape, found = _read_folder(path)
    elif path.is_file():
        shape, found = _read_file(path)
    else:
        raise WeightsError(
            "no such weights",
            where=str(path),
            expected="a fair-esm .pt file or a Hugging Face folder of an ESM-2 model",
        )
    return Checkpoint(shape, _checked(found, shape, path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and hashes of the safetensors files of a folder."""
    if path.is_dir():
        total = hashlib.sha256()
        for part in sorted(path.glob("*.safetensors")):
            total.update(f"{part.name} {file_sha256(part)}\n".encode())
        return total.hexdigest()
    return file_digest(path)


def _read_file(path: Path) -> tuple[ESM2Shape, dict[str, Tensor]]:
    zipped = zipfile.is_zipfile(path)
    try:
        # PyTorch's own reader skips the checksums of the archive.
        if zipped and (member := zipfile.ZipFile(path).testzip()):
            raise WeightsError(f"damaged file: checksum of {member} is wrong", where=str(path), hint=MEND)
        with safe_globals([argparse.Namespace]):
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
    except WeightsError:
        raise
    except Exception as error:  # damaged pickles and archives raise anything
        raise WeightsError(
            "not a readable checkpoint: truncated, damaged or of another format",
            where=str(path),
            got=f"{path.stat().st_size} bytes, {type(error).__name__}",
            expected="an ESM-2 file of fair-esm, such as esm2_t6_8M_UR50D.pt",
            hint=MEND,
        ) from error
    if not isinstance(data, Mapping) or not isinstance(data.get("model"), Mapping):
        keys = ", ".join(map(str, list(data)[:4])) if isinstance(data, Mapping) else type(data).__name__
        raise WeightsError(
            "not an ESM-2 checkpoint", where=str(path), got=keys, expected="entries model and cfg"
        )
    cfg = data.get("cfg")
    settings = cfg.get("model") if isinstance(cfg, Mapping) else getattr(cfg, "model", None)
    if settings is None:
        args = data.get("args")
        arch = getattr(args, "arch", None) or "unknown architecture"
        raise WeightsError(
            "a checkpoint of another model",
            where=str(path),
            got=f"{arch} (ESM-1b, ESM-1v and older have no cfg entry)",
            expected="ESM-2",
            hint="Use one of " + ", ".join(name for name in SHAPES if name != "scratch"),
        )
    values = settings if isinstance(settings, Mapping) else getattr(settings, "__dict__", {})
    shape = _shape(
        values, ("encoder_layers", "encoder_embed_dim", "encoder_attention_heads", "token_dropout"), path
    )
    prefix = re.compile(r"^encoder\.(sentence_encoder\.)?")
    return shape, {prefix.sub("", str(name)): value for name, value in data["model"].items()}


def _read_folder(path: Path) -> tuple[ESM2Shape, dict[str, Tensor]]:
    files = sorted(path.glob("*.safetensors"))
    try:
        config = json.loads((path / "config.json").read_text())
        found = {name: value for file in files for name, value in load_file(file).items()}
    except Exception as error:  # missing, not JSON, not safetensors
        raise WeightsError("cannot read the folder of weights", where=str(path), got=str(error)) from error
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    if (
        kind != "esm"
        or config.get("position_embedding_type") != "rotary"
        or config.get("emb_layer_norm_before")
    ):
        raise WeightsError(
            "the folder holds another model", where=str(path), got=f"model_type {kind}", expected="ESM-2"
        )
    if config.get("layer_norm_eps", 1e-5) != 1e-5:
        raise WeightsError(
            "a variant of ESM-2",
            where=str(path),
            got=f"layer_norm_eps {config['layer_norm_eps']}",
            expected="1e-05",
        )
    if not files:
        raise WeightsError("no weights in the folder", where=str(path), expected="model.safetensors")
    shape = _shape(config, ("num_hidden_layers", "hidden_size", "num_attention_heads", "token_dropout"), path)
    renamed = {}
    for name, value in found.items():
        for pattern, new in HUGGING_FACE:
            name = re.sub(pattern, new, name)
        renamed[name] = value
    return shape, renamed


def _shape(values: Mapping[str, Any], keys: tuple[str, str, str, str], path: Path) -> ESM2Shape:
    layers, width, heads, token_dropout = (values.get(key) for key in keys)
    if not all(type(number) is int and 0 < number < 10_000 for number in (layers, width, heads)):
        raise WeightsError(
            "the checkpoint does not state its size",
            where=str(path),
            got=", ".join(f"{key} {values.get(key)!r}" for key in keys[:3]),
            expected="whole numbers",
        )
    try:
        return ESM2Shape(int(layers or 0), int(width or 0), int(heads or 0), token_dropout is not False)
    except ConfigError as error:
        raise WeightsError(error.message, where=str(path), got=error.got, expected=error.expected) from error


def _checked(found: Mapping[str, Any], shape: ESM2Shape, path: Path) -> dict[str, Tensor]:
    """The trunk's weights alone, complete and of the right shapes."""
    with torch.device("meta"):  # names and shapes without memory
        expected = {name: value.shape for name, value in ESM2(shape).state_dict().items()}
    if stray := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise WeightsError("entries that are not tensors", where=str(path), got=", ".join(stray[:3]))
    rotary = [value for name, value in found.items() if ROTARY.match(name)]
    if any(not torch.equal(value, rotary[0]) for value in rotary):
        raise WeightsError("rotary frequencies differ between the layers", where=str(path), expected="ESM-2")
    weights = {n: v for n, v in found.items() if not UNUSED.match(n) and not ROTARY.match(n)}
    weights["inv_freq"] = rotary[0] if rotary else rotary_frequencies(shape.width // shape.heads)
    problems = [
        f"no {n}" if n not in weights else f"{n} {tuple(weights[n].shape)} instead of {tuple(s)}"
        for n, s in expected.items()
        if n not in weights or weights[n].shape != s
    ] + [f"unknown {n}" for n in weights if n not in expected]
    if problems:
        raise WeightsError(
            "the weights do not fit ESM-2",
            where=str(path),
            got="; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else ""),
            expected=f"{shape.layers} layers of width {shape.width}",
        )
    for name, value in weights.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise WeightsError("the weights are not finite numbers", where=str(path), got=name, hint=MEND)
    return weights
