"""Short texts as a modality: sentences -> word pieces -> BERT."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from protclip.errors import ConfigError, DataError
from protclip.modalities.base import TensorBatch
from protclip.modalities.sequence.esm_weights import Provenance
from protclip.modalities.text.keywords import find_keywords, learn_keywords
from protclip.modalities.text.networks import TEXT_TOWERS, TextEncoder
from protclip.modalities.text.wordpieces import (
    learn_wordpieces,
    padded,
    published_tokenizer,
    token_ids,
    tokenizers,
)
from protclip.modalities.transformers import (
    Init,
    NetworkModality,
    Tune,
    build_network,
    initial_network,
    network_text,
    settle_tune,
    tower_facts,
)


class TextModality(NetworkModality[str]):
    """Short texts seen by BERT.

    Parameters
    ----------
    net : Module
        Network of the transformers library with its starting weights; :meth:`create` finds them.
    provenance : Provenance
        Where these are from.
    tokenizer : str
        Tokenizer as JSON text; empty where :meth:`prepare` learns one from the training texts.
    vocabulary : int
        Word pieces to learn, at most.
    max_tokens : int
        Longer texts are cut.
    pool : {"mean", "cls"}
    tune : {"frozen", "full"}
    dropout : float
        Augmented view: share of the words left out.
    keywords : int or sequence of str
        Keywords for partial labels (objective ``s-clip``), or how many :meth:`prepare` takes from the
        training texts.
    keyword_prompt : str
        Sentence that says a keyword, with ``{}`` in its place.

    Examples
    --------
    >>> side = TextModality.create("tiny")
    >>> side.prepare(["a red square", "two green discs"])
    >>> side.encoder.eval()(side.collate(["a green square"])).shape
    torch.Size([1, 32])
    """

    name = "text"
    budget: ClassVar[int] = 8192
    equal_items_leak: ClassVar[bool] = False

    def __init__(
        self,
        net: nn.Module,
        provenance: Provenance,
        *,
        tokenizer: str = "",
        vocabulary: int = 4096,
        max_tokens: int = 64,
        pool: Literal["mean", "cls"] = "mean",
        tune: Literal["frozen", "full"] = "full",
        dropout: float = 0.3,
        keywords: int | Sequence[str] = 64,
        keyword_prompt: str = "a photograph of {}.",
    ) -> None:
        if pool not in ("mean", "cls"):
            raise ConfigError("unknown choice", where="pool", got=repr(pool), expected="mean or cls")
        if not 0 <= dropout < 1:
            raise ConfigError("out of range", where="dropout", got=str(dropout), expected="0 to 1")
        if "{}" not in keyword_prompt:
            raise ConfigError(
                "no place for the keyword", where="keyword_prompt", got=repr(keyword_prompt), expected="{}"
            )
        places = int(getattr(net.config, "max_position_embeddings", 512))
        if not 3 <= max_tokens <= places:
            raise ConfigError(
                "out of range", where="max_tokens", got=str(max_tokens), expected=f"3 to {places}"
            )
        self.vocabulary, self.max_tokens, self.pool = vocabulary, max_tokens, pool
        self.dropout = dropout
        self.keyword_prompt = keyword_prompt
        self.keyword_limit = keywords if isinstance(keywords, int) else 0
        self.known_keywords = [] if isinstance(keywords, int) else list(keywords)
        self.has_keywords = bool(self.known_keywords)
        self.adopt(net, provenance, tune)
        self.tokenizer: Any = tokenizers().Tokenizer.from_str(tokenizer) if tokenizer else None
        self._seed = 0
        self.encoder: TextEncoder = TextEncoder(net, pool)

    @classmethod
    def create(
        cls,
        encoder: str = "small",
        *,
        weights: str = "",
        init: Init = "auto",
        tune: Tune = "auto",
        vocabulary: int = 4096,
        max_tokens: int = 64,
        pool: Literal["mean", "cls"] = "mean",
        dropout: float = 0.3,
        keywords: int | Sequence[str] = 64,
        keyword_prompt: str = "a photograph of {}.",
        seed: int = 0,
    ) -> TextModality:
        """Find or make starting weights and build the modality on them.

        Parameters
        ----------
        encoder : str
            ``tiny`` or ``small`` (trained from scratch, with word pieces learned from the training
            texts), ``bert-base``, a folder of the transformers library, or a name on its hub.
        weights : str
            Folder with the weights of ``encoder``.
        init : {"auto", "pretrained", "random"}
            See :func:`protclip.modalities.transformers.initial_network`.
        tune : {"auto", "frozen", "full"}
            ``auto`` freezes pretrained weights and trains random ones.
        vocabulary, max_tokens, pool, dropout, keywords, keyword_prompt
            Of the constructor.
        seed : int
            Of random weights.

        Raises
        ------
        WeightsError, ConfigError
        """
        net, origin = initial_network(
            encoder, TEXT_TOWERS, init=init, weights=weights, seed=seed, fallback="small"
        )
        tokenizer = ""
        if net is None:
            net = build_network(TEXT_TOWERS[origin.name].network, seed)
        else:
            tokenizer = published_tokenizer(origin.path).to_str()
        side = cls(
            net,
            origin,
            tokenizer=tokenizer,
            vocabulary=vocabulary,
            max_tokens=max_tokens,
            pool=pool,
            tune=settle_tune(tune, origin),
            dropout=dropout,
            keywords=keywords,
            keyword_prompt=keyword_prompt,
        )
        side._seed = seed
        return side

    def prepare(self, items: Sequence[str]) -> None:
        """Learn the keywords and word pieces of the training texts, unless these came with the options."""
        if self.keyword_limit:
            self.known_keywords = learn_keywords(items, self.keyword_limit)
            self.has_keywords = bool(self.known_keywords)
        if self.tokenizer is not None:
            return
        self.tokenizer = learn_wordpieces(items, self.vocabulary)
        network = self.encoder.net.config.to_dict()
        network["vocab_size"] = self.tokenizer.get_vocab_size()
        self.encoder = TextEncoder(build_network(network, self._seed), self.pool)

    def config(self) -> dict[str, Any]:
        """Architecture, tokenizer, view and provenance as plain values."""
        return {
            "network": network_text(self.encoder.net),
            "tokenizer": "" if self.tokenizer is None else self.tokenizer.to_str(),
            "vocabulary": self.vocabulary,
            "max_tokens": self.max_tokens,
            "pool": self.pool,
            "tune": self.tune,
            "dropout": self.dropout,
            "keywords": self.known_keywords,
            "keyword_prompt": self.keyword_prompt,
            "provenance": self.provenance.to_dict(),
        }

    def read(self, source: Any) -> Iterable[tuple[str, str | Exception]]:
        """Texts from a file, a folder of ``.txt`` files, strings, a mapping by id, or pairs (id, text).

        A ``.tsv`` file has the id before the first tab of a line; of any other file every line is a text,
        numbered from 0. Strings in a list are numbered too. An empty text comes as its error.

        Raises
        ------
        DataError
            If a file cannot be read as text, or ``source`` is of another type.
        """
        for id, value in _stream(source):
            text = " ".join(value.split()) if isinstance(value, str) else value
            if not isinstance(text, str):
                yield id, DataError("not a text", where=id, got=type(value).__name__, expected="a string")
            elif not text:
                yield id, DataError("empty text", where=id, got="white space", expected="at least a word")
            else:
                yield id, text

    def accepts(self, path: Path) -> bool:
        """A ``.txt`` or ``.tsv`` file, or a folder of ``.txt`` files."""
        if path.is_dir():
            return any(file.suffix == ".txt" for file in path.iterdir())
        return path.is_file() and path.suffix.lower() in (".txt", ".tsv")

    def collate(self, items: Sequence[str]) -> TensorBatch:
        """Token numbers [n, longest] and which of them are tokens."""
        if self.tokenizer is None:
            raise ConfigError(
                "the text side has no words yet", hint="Call prepare(texts) with the training texts first"
            )
        pad = int(getattr(self.encoder.net.config, "pad_token_id", 0) or 0)
        return TensorBatch(*padded(token_ids(self.tokenizer, items, self.max_tokens), pad))

    def augment(self, item: str, rng: np.random.Generator) -> str:
        """The text without some of its words; at least one stays."""
        words = item.split()
        keep = rng.random(len(words)) >= self.dropout
        keep[rng.integers(len(words))] = True
        return " ".join(word for word, kept in zip(words, keep, strict=True) if kept)

    def keywords(self, item: str) -> list[str]:
        """The known keywords that stand in a text."""
        return find_keywords(item, self.known_keywords)

    def keyword_item(self, word: str) -> str:
        """The prompt of a keyword."""
        return self.keyword_prompt.format(word)

    def cost(self, item: str) -> int:
        """Tokens, roughly: bytes over four, and two special ones."""
        return min(self.max_tokens, 2 + len(item.encode()) // 4)

    def remarks(self, items: Iterable[str]) -> dict[str, int]:
        """How many texts are cut."""
        if self.tokenizer is None:
            return {}
        count = sum(
            len(encoding.ids) > self.max_tokens for encoding in self.tokenizer.encode_batch(list(items))
        )
        return {f"longer than {self.max_tokens} tokens, cut": count} if count else {}

    def digest(self, item: str) -> bytes:
        """Hash of the text."""
        return hashlib.sha256(item.encode()).digest()

    def encode_residues(self, batch: Any) -> list[Tensor]:
        """Features of the tokens, special ones included: one [length, out_dim] tensor per text."""
        features = self.encoder.tokens(batch)
        return [row[known] for row, known in zip(features, batch.tensors[1], strict=True)]

    def describe(self) -> dict[str, Any]:
        """Network, weights and vocabulary."""
        facts = {
            "tower": str(self.encoder.net.config.model_type),
            **tower_facts(self.provenance, self.tune),
            "vocabulary": 0 if self.tokenizer is None else self.tokenizer.get_vocab_size(),
            "sees": f"the first {self.max_tokens} tokens",
        }
        return facts | super().describe()


def _stream(source: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(source, (str, Path)):
        yield from _lines(Path(source))
    elif isinstance(source, Mapping):
        yield from ((str(id), value) for id, value in source.items())
    elif isinstance(source, Iterable):
        for i, part in enumerate(source):
            yield (str(part[0]), part[1]) if isinstance(part, tuple) and len(part) == 2 else (str(i), part)
    else:
        raise DataError(
            "cannot be read as texts",
            got=type(source).__name__,
            expected="a file, strings, a mapping of ids to strings, or (id, text) pairs",
        )


def _lines(path: Path) -> Iterable[tuple[str, str]]:
    if path.is_dir():
        for file in sorted(path.glob("*.txt")):
            yield file.stem, _text(file)
        return
    for number, line in enumerate(_text(path).splitlines()):
        if path.suffix.lower() == ".tsv":
            id, _, text = line.partition("\t")
            if line.strip():
                yield id.strip(), text
        else:
            yield str(number), line


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text ({error})", where=str(path)) from error
