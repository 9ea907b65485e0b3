"""Short texts: vocabulary, what is read and cut, views, and where weights come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protclip.errors import ConfigError, DataError, ProtclipError, WeightsError
from protclip.modalities.text.adapter import TextModality

TEXTS = [
    f"a {colour} {shape} at the {place}"
    for colour in ("red", "green", "dark blue")
    for shape in ("square", "ring")
    for place in ("top", "bottom")
]


def prepared(texts: Sequence[str] = TEXTS, **options: Any) -> TextModality:
    side = TextModality.create("tiny", **options)
    side.prepare(texts)
    return side


@pytest.fixture(scope="module")
def side() -> TextModality:
    return prepared()


def test_without_words_nothing_can_be_encoded() -> None:
    with pytest.raises(ConfigError, match="no words yet"):
        TextModality.create("tiny").collate(["a red ring"])


def test_the_vocabulary_is_that_of_the_training_texts(side: TextModality) -> None:
    tokens = side.tokenizer.encode("A red RING, sideways").tokens
    assert tokens[:4] == ["[CLS]", "▁a", "▁red", "▁ring"]
    assert tokens[-1] == "[SEP]"
    assert "[UNK]" in tokens  # the comma was never seen
    words = side.encoder.net.get_input_embeddings().num_embeddings
    assert words == side.tokenizer.get_vocab_size() < 200
    small = prepared(vocabulary=30)
    assert small.tokenizer.get_vocab_size() == 30


def test_the_vocabulary_does_not_depend_on_process_or_order(side: TextModality) -> None:
    code = (
        "from protclip.modalities.text.wordpieces import learn_wordpieces\n"
        f"print(learn_wordpieces({TEXTS[::-1]!r}, 4096).to_str())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == side.tokenizer.to_str()


def test_a_row_does_not_depend_on_the_others(side: TextModality) -> None:
    texts = ["a red ring", "a dark blue square at the bottom of the bottom of the bottom", "top"]
    encoder = side.encoder.eval()
    with torch.inference_mode():
        together = encoder(side.collate(texts))
        alone = torch.cat([encoder(side.collate([text])) for text in texts])
        parts = side.encode_residues(side.collate(texts))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, torch.stack([part.mean(0) for part in parts]), rtol=1e-4, atol=1e-5)
    ids = [side.tokenizer.encode(text).ids for text in texts]
    assert [len(part) for part in parts] == [len(row) for row in ids]


def test_class_token() -> None:
    side = prepared(pool="cls")
    batch = side.collate(["a red ring", "top"])
    with torch.inference_mode():
        rows = side.encoder.eval()(batch)
        parts = side.encode_residues(batch)
    torch.testing.assert_close(rows, torch.stack([part[0] for part in parts]))


def test_long_texts_are_cut_and_counted() -> None:
    side = prepared(max_tokens=6)
    long = "a red ring at the top at the bottom"
    ids, known = side.collate([long, "a ring"]).tensors
    assert known.sum(1).tolist() == [6, 4]
    assert ids[0, -1] == side.tokenizer.token_to_id("[SEP]")
    assert ids[1, -1] == side.tokenizer.token_to_id("[PAD]")
    assert side.remarks([long, "a ring"]) == {"longer than 6 tokens, cut": 1}


def test_reading(side: TextModality, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two  words \n")
    (tmp_path / "b.tsv").write_text("x\ta text\ny\t\n\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "first.txt").write_text("over\nlines")

    def read(source: Any) -> dict[str, Any]:
        return {id: item if isinstance(item, str) else type(item).__name__ for id, item in side.read(source)}

    assert read(tmp_path / "a.txt") == {"0": "one", "1": "DataError", "2": "two words"}
    assert read(tmp_path / "b.tsv") == {"x": "a text", "y": "DataError"}
    assert read(folder) == {"first": "over lines"}
    assert read({"k": "v", "n": 3}) == {"k": "v", "n": "DataError"}
    assert read(["p", ("id", "q")]) == {"0": "p", "id": "q"}
    assert side.accepts(tmp_path / "a.txt")
    assert side.accepts(folder)
    assert not side.accepts(tmp_path / "nowhere")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        list(side.read(tmp_path / "bad.txt"))
    with pytest.raises(DataError, match="cannot be read as texts; got int"):
        list(side.read(3))


def test_views_drop_words_at_the_rate_asked_for(side: TextModality) -> None:
    text = " ".join(f"w{i}" for i in range(50))
    kept = [len(side.augment(text, np.random.default_rng(i)).split()) for i in range(200)]
    assert np.mean(kept) / 50 == pytest.approx(0.7 + 0.3 / 50, abs=0.02)
    assert side.augment("word", np.random.default_rng(0)) == "word"
    first, again = (side.augment(text, np.random.default_rng(1)) for _ in range(2))
    assert first == again
    assert set(first.split()) <= set(text.split())


def test_config_round_trip(side: TextModality) -> None:
    again = TextModality.from_config(side.config())
    assert again.config() == side.config()
    again.encoder.load_state_dict(side.encoder.state_dict())
    assert torch.equal(again.encoder.eval()(again.collate(TEXTS)), side.encoder.eval()(side.collate(TEXTS)))
    again.prepare(["other words"])  # a vocabulary that is there stays
    assert again.config() == side.config()


def test_equal_texts_of_different_things_are_no_copies(side: TextModality) -> None:
    assert not side.equal_items_leak
    assert side.digest("a") == side.digest("a") != side.digest("b")


@pytest.mark.parametrize(
    "options",
    [{"dropout": 1.0}, {"pool": "max"}, {"max_tokens": 2}, {"max_tokens": 10_000}, {"tune": "lora"}],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        TextModality.create("tiny", **options)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with a vocabulary of its own, as the transformers library saves them."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ring", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_a_published_model_from_a_folder(bert: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    side = TextModality.create("bert-base", weights=str(bert), pool="cls")
    assert side.frozen
    texts = ["a red ring", "A rings"]
    expected = AutoTokenizer.from_pretrained(bert)(texts, padding=True, return_tensors="pt")
    ids, known = side.collate(texts).tensors
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(known.long(), expected["attention_mask"])
    found = BertModel.from_pretrained(bert).eval()(**expected).last_hidden_state[:, 0]
    torch.testing.assert_close(side.encoder.eval()(side.collate(texts)), found)
    side.prepare(["these words are not learned"])
    assert side.tokenizer.get_vocab_size() == 9
    again = TextModality.from_config(side.config())
    assert torch.equal(again.collate(texts).tensors[0], ids)


def test_published_names_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="bert-base-uncased"):
        TextModality.create("bert-base", init="pretrained")
    assert TextModality.create("bert-base").provenance.fallback


def test_a_model_without_tokenizer_is_refused(bert: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("config.json", "model.safetensors"):
        shutil.copy(bert / name, tmp_path / name)
    with pytest.raises(WeightsError, match="no tokenizer"):
        TextModality.create("bert-base", weights=str(tmp_path))


def test_without_tokenizers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ProtclipError, match=r"pip install 'protclip\[image-text\]'"):
        TextModality.create("tiny").prepare(["a"])
