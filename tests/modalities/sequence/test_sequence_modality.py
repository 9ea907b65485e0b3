"""The sequence adapter: letters, windows, pooling, views, sources, saving."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import esm
import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from protclip.errors import ConfigError, DataError
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.sequence.esm2 import ESM2Shape, random_esm2
from protclip.modalities.sequence.esm_weights import Provenance
from protclip.modalities.sequence.tokens import LETTERS, MASK_LETTER, collate_sequences, tokenize, windows
from protclip.structure.protein import Protein

RANDOM = Provenance("random", "custom", "seed 0")
AMINO = "ACDEFGHIKLMNPQRSTVWY"


def small(**options: Any) -> SequenceModality:
    side = SequenceModality(random_esm2(ESM2Shape(2, 32, 4), seed=1), RANDOM, **options)
    side.encoder.eval()
    return side


# letters


def test_tokens_equal_fair_esm() -> None:
    alphabet = esm.data.Alphabet.from_architecture("ESM-1b")
    assert tokenize(LETTERS).tolist() == alphabet.encode(LETTERS)
    assert tokenize(LETTERS.lower()).tolist() == alphabet.encode(LETTERS)
    assert tokenize("Jj").tolist() == alphabet.encode("XX")


@pytest.mark.parametrize(
    ("sequence", "position", "letter"),
    [("MK*T", 3, "'*'"), ("MKTé", 4, "'é'"), ("M\u4e2dT", 2, "'\u4e2d'"), ("#", 1, "'#'"), ("A A", 2, "' '")],
)
def test_a_wrong_letter_is_named(sequence: str, position: int, letter: str) -> None:
    with pytest.raises(DataError) as error:
        tokenize(sequence, "P1")
    assert error.value.where == "P1"
    assert error.value.message.startswith(f"residue {position} ")
    assert error.value.got == letter


def test_empty_sequence() -> None:
    with pytest.raises(DataError, match="P1: empty sequence; got 0 residues"):
        tokenize("", "P1")


@given(st.text())
def test_any_text_is_tokens_or_an_error(text: str) -> None:
    try:
        tokens = tokenize(text)
    except DataError:
        return
    assert len(tokens) == len(text)
    assert all(letter.upper() in LETTERS + "J" for letter in text)


# windows


@given(length=st.integers(1, 400), longest=st.integers(2, 60))
def test_windows_cover_the_chain_and_overlap(length: int, longest: int) -> None:
    spans = windows(length, longest)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(stop - start <= longest for start, stop in spans)
    if length > longest:
        assert all(stop - start == longest for start, stop in spans)
        overlaps = [a[1] - b[0] for a, b in pairwise(spans)]
        assert min(overlaps) >= longest // 4 - (longest < 4)


@torch.no_grad()
def test_long_chain_is_the_mean_over_its_windows() -> None:
    side = small(max_length=8)
    rng = np.random.default_rng(0)
    chain = "".join(rng.choice(list(AMINO), 19))
    total, times = torch.zeros(19, 32), torch.zeros(19, 1)
    for start, stop in windows(19, 8):
        (piece,) = side.encode_residues(side.collate([chain[start:stop]]))
        total[start:stop] += piece
        times[start:stop] += 1
    batch = side.collate(["GG", chain, "A"])
    assert batch.windowed == 1
    assert sum(side.remarks(["GG", chain, "A"]).values()) == 1
    residues = side.encode_residues(batch)
    assert [len(part) for part in residues] == [2, 19, 1]
    torch.testing.assert_close(residues[1], total / times, atol=2e-6, rtol=0)
    torch.testing.assert_close(side.encoder(batch)[1], (total / times).mean(0), atol=2e-6, rtol=0)


@torch.no_grad()
def test_default_window_embeds_any_length() -> None:
    side = small()
    chains = ["A" * 1022, "A" * 1023, "MK" * 1200]
    batch = side.collate(chains)
    assert batch.windowed == 2
    assert len(batch.tokens) == sum(side.cost(chain) for chain in chains) == (1022 + 2) * (1 + 2 + 3)
    assert torch.isfinite(side.encoder(batch)).all()


# encoder


@torch.no_grad()
def test_pooling_counts_residues_only(tiny_net: Any, tiny_checkpoint: Path) -> None:
    side = SequenceModality.create("scratch", weights=tiny_checkpoint)
    convert = esm.data.Alphabet.from_architecture("ESM-1b").get_batch_converter()
    sequences = ["MKTAYIAKQR", "GG", "A"]
    _, _, padded = convert([("", s) for s in sequences])
    theirs = tiny_net(padded, repr_layers=[2])["representations"][2]
    expected = torch.stack([row[1 : 1 + len(s)].mean(0) for row, s in zip(theirs, sequences, strict=True)])
    torch.testing.assert_close(side.encoder.eval()(side.collate(sequences)), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_batch_equals_its_members_for_all_lengths() -> None:
    side = small()
    rng = np.random.default_rng(1)
    sequences = ["".join(rng.choice(list(AMINO), n)) for n in range(1, 65)]
    together = side.encoder(side.collate(sequences))
    alone = torch.cat([side.encoder(side.collate([s])) for s in sequences])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    order = rng.permutation(64)
    shuffled = side.encoder(side.collate([sequences[i] for i in order]))
    torch.testing.assert_close(shuffled, together[order], atol=1e-5, rtol=0)


def test_empty_batch() -> None:
    side = small()
    assert side.encoder(side.collate([])).shape == (0, 32)


def test_batch_moves_and_counts() -> None:
    batch = collate_sequences(["MKT", "A" * 9], longest=4)
    assert len(batch) == 2
    moved = batch.to("cpu")
    assert moved.rows is not None
    assert torch.equal(moved.tokens, batch.tokens)


# views


@given(length=st.integers(1, 80), seed=st.integers(0, 99))
def test_view_is_a_masked_piece(length: int, seed: int) -> None:
    side = _SIDE
    sequence = "".join(np.random.default_rng(seed).choice(list(AMINO), length))
    view = side.augment(sequence, np.random.default_rng(seed))
    assert view == side.augment(sequence, np.random.default_rng(seed))
    assert round(0.5 * length) <= max(len(view), 1) <= length
    assert set(view) != {MASK_LETTER}
    fits = [
        all(v in (MASK_LETTER, s) for v, s in zip(view, sequence[i:], strict=False))
        for i in range(length - len(view) + 1)
    ]
    assert any(fits)


_SIDE = small(mask=0.4, crop=0.5)


def test_share_of_masked_residues() -> None:
    side = small(mask=0.2, crop=1.0)
    view = side.augment("A" * 20000, np.random.default_rng(0))
    assert view.count(MASK_LETTER) / 20000 == pytest.approx(0.2, abs=0.02)


def test_no_view_options_leave_the_sequence() -> None:
    assert small(mask=0.0, crop=1.0).augment("MKTAY", np.random.default_rng(0)) == "MKTAY"


def test_views_can_be_encoded() -> None:
    side = small(mask=0.5)
    view = side.augment("MKTAYIAKQR", np.random.default_rng(3))
    assert MASK_LETTER in view
    assert torch.isfinite(side.encoder(side.collate([view]))).all()


# tuning and saving


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_round_trip_through_toml_and_safetensors(tune: Any, tmp_path: Path) -> None:
    side = small(tune=tune, lora_rank=2, lora_alpha=5.0, mask=0.3, max_length=12)
    assert side.frozen == (tune == "frozen")
    with torch.no_grad():
        for name, value in side.encoder.named_parameters():
            if "lora_b" in name:
                value.normal_()
    tomli_w.dumps(side.config())  # plain values only
    save_file(side.encoder.state_dict(), tmp_path / "w.safetensors")
    again = SequenceModality.from_config(json.loads(json.dumps(side.config())))
    again.encoder.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert again.config() == side.config()
    batch = side.collate(["MKTAYIAKQRGGGGGG"])
    assert torch.equal(again.encoder.eval()(batch), side.encoder(batch))
    assert [p.requires_grad for p in again.encoder.parameters()] == [
        p.requires_grad for p in side.encoder.parameters()
    ]
    trained = sum(p.numel() for p in side.encoder.parameters() if p.requires_grad)
    assert trained == {"frozen": 0, "lora": 2 * 4 * 2 * 2 * 32}.get(tune, side.describe()["parameters"])
    assert side.describe()["trained parameters"] == trained


def test_auto_tunes_by_the_weights(tiny_checkpoint: Path) -> None:
    assert SequenceModality.create("scratch", weights=tiny_checkpoint).tune == "frozen"
    assert SequenceModality.create("scratch", weights=tiny_checkpoint, tune="lora").tune == "lora"
    scratch = SequenceModality.create("scratch", init="random")
    assert scratch.tune == "full"
    assert scratch.encoder.net.dropout == 0.1
    assert SequenceModality.create("scratch", init="random", tune="frozen").frozen


def test_fallback_trains_in_full_and_is_on_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROTCLIP_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    side = SequenceModality.create("8M", tune="frozen")
    assert side.tune == "full"
    assert "FROM SCRATCH" in side.describe()["note"]
    assert side.config()["provenance"]["fallback"] is True


def test_card_names_file_and_checksum(tiny_checkpoint: Path) -> None:
    facts = SequenceModality.create("scratch", weights=tiny_checkpoint).describe()
    assert facts["pretrained"] is True
    assert facts["weights file"] == str(tiny_checkpoint)
    assert len(facts["weights SHA-256"]) == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": 1.5}, "mask: out of range; got 1.5"),
        ({"crop": -1.0}, "crop: out of range"),
        ({"max_length": 1}, "max_length: out of range; got 1, expected 2 or more"),
        ({"tune": "half"}, "--tune: unknown choice; got 'half'"),
        ({"tune": "lora", "lora_rank": 0}, "lora_rank: out of range"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**options)


# sources


def test_sources_agree(tmp_path: Path) -> None:
    side = small()
    fasta = tmp_path / "x.fasta"
    fasta.write_text(">a one\nmkt\nay\n>b\nG-G*\n")
    expected = [("a", "MKTAY"), ("b", "GG")]
    ca = np.zeros((5, 3))
    sources: list[Any] = [
        fasta,
        str(fasta),
        {"a": "mktay", "b": "G-G*"},
        [("a", "MKT AY\n"), ("b", "GG")],
        iter([Protein.from_ca("a", "MKTAY", ca), Protein.from_ca("b", "GG", ca[:2])]),
    ]
    for source in sources:
        assert list(side.read(source)) == expected
    assert list(side.read(["MKT", "GG"])) == [("0", "MKT"), ("1", "GG")]
    assert list(side.read(Protein.from_ca("a", "MKTAY", ca))) == expected[:1]


def test_bad_items_are_passed_on_as_errors() -> None:
    items = list(small().read({"ok": "MKT", "bad": "MK1", "none": None, "gaps": "--", "empty": ""}))
    assert items[0] == ("ok", "MKT")
    errors = [error for _, error in items[1:]]
    assert all(isinstance(error, DataError) for error in errors)
    assert [id for id, _ in items[1:]] == [error.where for error in errors if isinstance(error, DataError)]
    assert "residue 3" in str(errors[0])
    assert "got NoneType" in str(errors[1])


def test_a_bad_record_does_not_end_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.fasta"
    path.write_text(">a\nMKT\n>bad\nMK1\n>empty\n>a\nGG\n>c\nMJ\n")
    items = list(small().read(path))
    assert [(id, item) for id, item in items if isinstance(item, str)] == [
        ("a", "MKT"),
        ("a", "GG"),  # repeated ids are the stream's to refuse
        ("c", "MJ"),
    ]
    bad, empty = items[1:3]
    assert str(bad[1]).startswith(f"{path}:4: not a residue letter in 'bad'; got '1'")
    assert str(empty[1]).startswith(f"{path}:5: record without a sequence; got 'empty'")


def test_other_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as sequences; got int"):
        list(small().read(3))
    with pytest.raises(DataError, match=r"missing\.fasta"):
        list(small().read(tmp_path / "missing.fasta"))
    (tmp_path / "prose.fasta").write_text("Dear all,\n>a\nMK\n")
    with pytest.raises(DataError, match=r"prose\.fasta:1: not a FASTA file"):
        list(small().read(tmp_path / "prose.fasta"))


def test_digest_follows_the_tokens() -> None:
    side = small()
    assert side.digest("MKJ") == side.digest("mkx")
    assert side.digest("MK") != side.digest("KM")
    assert side.digest("MK#") != side.digest("MKX")
