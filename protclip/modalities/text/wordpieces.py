"""Tokens of short texts: pieces of words learned from the texts themselves, or a published vocabulary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protclip.errors import ProtclipError, WeightsError
from protclip.modalities.transformers import HINT, transformers

VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizers() -> Any:
    """The tokenizers library.

    Raises
    ------
    ProtclipError
        If it is not installed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers as library  # lazy: only texts need it
    except ImportError as error:
        raise ProtclipError("texts need tokenizers, which is not installed", hint=HINT) from error
    return library


def learn_wordpieces(texts: Iterable[str], size: int) -> Any:
    """A tokenizer that splits into lower-case words and punctuation and these into at most ``size`` pieces.

    Byte-pair encoding (Sennrich et al. 2016), with a mark before every word. The library's WordPiece
    trainer gives another vocabulary in every process; this one depends on the texts alone, not on their
    order.

    Examples
    --------
    >>> tokenizer = learn_wordpieces(["a red square", "a red dot"], 100)
    >>> tokenizer.encode("A red dot").tokens
    ['[CLS]', '▁a', '▁red', '▁dot', '[SEP]']
    """
    library = tokenizers()
    split = library.pre_tokenizers
    tokenizer = library.Tokenizer(library.models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = split.Sequence([split.BertPreTokenizer(), split.Metaspace()])
    tokenizer.decoder = library.decoders.Metaspace()
    trainer = library.trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(sorted(texts), trainer)
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def published_tokenizer(source: str) -> Any:
    """The tokenizer that belongs to pretrained weights, from their folder.

    Raises
    ------
    WeightsError
        If there is none.
    """
    folder = Path(source)
    # Asked for without any vocabulary, the library makes an empty one and says nothing.
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise WeightsError("no tokenizer", where=source, expected=" or ".join(VOCABULARY_FILES))
    try:
        if (folder / VOCABULARY_FILES[0]).is_file():
            return tokenizers().Tokenizer.from_file(str(folder / VOCABULARY_FILES[0]))
        return transformers().AutoTokenizer.from_pretrained(source, local_files_only=True).backend_tokenizer
    except ProtclipError:
        raise
    except Exception as error:  # the libraries raise what their many parts raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"the tokenizer cannot be loaded ({reason})", where=source) from error


def token_ids(tokenizer: Any, texts: Sequence[str], longest: int) -> list[list[int]]:
    """Token numbers of each text, cut to ``longest`` with the closing special token kept."""
    found = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    return [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in found]


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token numbers [n, longest] and which of them are tokens (bool), filled up with ``pad``.

    Examples
    --------
    >>> padded([[2, 7, 3], [2, 3]], 0)[0].tolist()
    [[2, 7, 3], [2, 3, 0]]
    """
    longest = max((len(row) for row in rows), default=1)
    ids = torch.full((len(rows), longest), pad, dtype=torch.int64)
    known = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        known[i, : len(row)] = True
    return ids, known
