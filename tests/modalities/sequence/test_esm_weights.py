"""Finding, reading, refusing and fetching ESM-2 weights."""

from __future__ import annotations

import hashlib
import http.server
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.errors import ConfigError, DownloadError, WeightsError
from protclip.modalities.sequence import esm_weights
from protclip.modalities.sequence.esm2 import SHAPES, ESM2Shape
from protclip.modalities.sequence.esm_checkpoint import read_checkpoint
from protclip.modalities.sequence.esm_weights import (
    Provenance,
    fetch_weights,
    find_weights,
    initial_esm2,
    load_esm2,
    remote_size,
)
from protclip.modalities.sequence.tokens import collate_sequences

NAME = "esm2_t6_8M_UR50D"


@pytest.fixture(autouse=True)
def _empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")


@pytest.fixture
def tiny_published(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoint, taken for the published 8M one."""
    monkeypatch.setitem(SHAPES, NAME, ESM2Shape(2, 32, 4))
    return tiny_checkpoint


def place(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / f"{NAME}.pt").write_bytes(file.read_bytes())
    return folder / f"{NAME}.pt"


def test_given_file_and_its_provenance(tiny_published: Path) -> None:
    net, origin = initial_esm2("8M", "auto", tiny_published)
    assert (origin.kind, origin.name, origin.source) == ("pretrained", NAME, "--esm-weights")
    assert origin.path == str(tiny_published)
    assert origin.sha256 == hashlib.sha256(tiny_published.read_bytes()).hexdigest()
    assert not origin.fallback
    assert net.shape == ESM2Shape(2, 32, 4)
    assert Provenance.from_dict(origin.to_dict()) == origin


def test_caches_are_searched_ours_first(tiny_published: Path, tmp_path: Path) -> None:
    assert find_weights(NAME) is None
    hub = place(tiny_published, tmp_path / "torch" / "hub" / "checkpoints")
    assert find_weights(NAME) == (hub, "torch hub's cache")
    ours = place(tiny_published, tmp_path / "cache" / "esm2")
    assert find_weights(NAME) == (ours, "protclip's cache")
    assert initial_esm2(NAME, "pretrained")[1].source == "protclip's cache"


def test_auto_falls_back_loudly() -> None:
    net, origin = initial_esm2(NAME, "auto", seed=4)
    assert net.shape == SHAPES["scratch"]
    assert (origin.kind, origin.name, origin.source, origin.fallback) == ("random", "scratch", "seed 4", True)
    assert "FROM SCRATCH" in origin.message
    assert "--esm-weights" in origin.message
    assert esm_weights.URL.format(name=NAME) in origin.message


def test_pretrained_insists() -> None:
    with pytest.raises(
        WeightsError, match=r"no pretrained esm2_t6_8M_UR50D weights.*download https://.*esm2"
    ):
        initial_esm2(NAME, "pretrained")


def test_random_does_not_look(tiny_published: Path, tmp_path: Path) -> None:
    place(tiny_published, tmp_path / "cache" / "esm2")
    net, origin = initial_esm2(NAME, "random", seed=2)
    assert (origin.kind, origin.name, origin.fallback) == ("random", NAME, False)
    assert net.shape == SHAPES[NAME]
    with pytest.raises(ConfigError, match="contradicts"):
        initial_esm2(NAME, "random", tiny_published)


def test_scratch_is_random_without_a_warning() -> None:
    assert not initial_esm2("scratch")[1].fallback
    with pytest.raises(WeightsError, match="no published weights of this size"):
        initial_esm2("scratch", "pretrained")


def test_unknown_choice() -> None:
    with pytest.raises(ConfigError, match="--esm-init: unknown choice; got 'best'"):
        initial_esm2(NAME, "best")  # type: ignore[arg-type]


def test_given_file_must_be_good_in_auto(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such weights; expected a fair-esm \.pt file"):
        initial_esm2(NAME, "auto", tmp_path / "missing.pt")


def test_damaged_cache_is_an_error_not_a_fallback(tiny_published: Path, tmp_path: Path) -> None:
    path = place(tiny_published, tmp_path / "cache" / "esm2")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="Delete the file and fetch it again"):
        initial_esm2(NAME, "auto")


def test_wrong_size_names_both(tiny_checkpoint: Path) -> None:
    with pytest.raises(WeightsError) as error:
        load_esm2(tiny_checkpoint, NAME)
    assert error.value.got == "custom (2 layers, width 32, 4 heads)"
    assert error.value.expected == f"{NAME} (6 layers, width 320, 20 heads)"


def test_wrong_size_tells_the_option(tiny_published: Path) -> None:
    with pytest.raises(WeightsError, match=f"Say --sequence-encoder {NAME}"):
        load_esm2(tiny_published, "esm2_t12_35M_UR50D")


def test_esm1b_is_named(tiny_net: Any, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    path = write_checkpoint(tiny_net, tmp_path / "x.pt", args=Namespace(arch="roberta_large"), cfg=None)
    with pytest.raises(WeightsError, match=r"another model; got roberta_large .*, expected ESM-2"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{"a": torch.zeros(1)}, torch.zeros(2), {"model": 3, "cfg": {}}])
def test_foreign_torch_files(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(WeightsError, match="not an ESM-2 checkpoint"):
        read_checkpoint(tmp_path / "foreign.pt")


class Evil:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code from the checkpoint was run",))


def test_code_in_a_checkpoint_is_not_run(
    tiny_net: Any, write_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_checkpoint(tiny_net, tmp_path / "evil.pt", extra=Evil())
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_checkpoint(path)


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with torch.serialization.safe_globals([Namespace]):
        data = torch.load(path, weights_only=True)
    change(data["model"])
    torch.save(data, path)


LAYER = "encoder.sentence_encoder.layers.1."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(LAYER + "fc1.bias"), "got no layers.1.fc1.bias, expected 2 layers of width 32"),
        (
            lambda w: w.update({LAYER + "fc1.bias": torch.zeros(3)}),
            r"layers.1.fc1.bias \(3,\) instead of \(128,\)",
        ),
        (lambda w: w.update({LAYER + "extra": torch.zeros(3)}), "unknown layers.1.extra"),
        (lambda w: w[LAYER + "fc1.bias"].fill_(float("nan")), "not finite numbers; got layers.1.fc1.bias"),
        (lambda w: w[LAYER + "self_attn.rot_emb.inv_freq"].add_(1), "rotary frequencies differ"),
        (lambda w: w.update({LAYER + "fc1.bias": "text"}), "entries that are not tensors"),
    ],
)
def test_incomplete_weights(
    change: Callable[[dict[str, Any]], None], message: str, tiny_checkpoint: Path
) -> None:
    edit(tiny_checkpoint, change)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(tiny_checkpoint)


def test_nonsense_size_entries(tiny_net: Any, write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    settings = Namespace(encoder_layers="2", encoder_embed_dim=32)
    path = write_checkpoint(tiny_net, tmp_path / "x.pt", cfg={"model": settings})
    with pytest.raises(WeightsError, match="does not state its size; got encoder_layers '2'"):
        read_checkpoint(path)


def test_half_precision_files_and_their_rounded_frequencies(tiny_checkpoint: Path) -> None:
    exact = read_checkpoint(tiny_checkpoint).weights["inv_freq"].clone()  # it is a view of the file
    edit(tiny_checkpoint, lambda w: w.update({name: value.half() for name, value in w.items()}))
    net, _ = load_esm2(tiny_checkpoint)
    assert net.state_dict()["layers.0.fc1.weight"].dtype == torch.float32
    assert torch.equal(net.inv_freq, exact.half().float())


def test_old_file_format(tiny_net: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with torch.serialization.safe_globals([Namespace]):
        data = torch.load(tiny_checkpoint, weights_only=True)
    torch.save(data, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(
        load_esm2(tmp_path / "old.pt")[0].state_dict()["layers.0.fc1.weight"], tiny_net.layers[0].fc1.weight
    )


@settings(max_examples=25)
@given(data=st.data())
def test_damaged_files_never_pass(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Truncation, and flipped bytes inside the weights, which PyTorch's own reader lets through."""
    global _GOOD
    raw = bytearray(_GOOD)
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw = raw[:place]
    else:
        raw[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.pt"
    path.write_bytes(raw)
    try:
        weights = read_checkpoint(path).weights
    except WeightsError:
        return
    # A flip in padding or in an unused field of the archive harms nothing.
    good = path.with_name("good.pt")
    good.write_bytes(_GOOD)
    expected = read_checkpoint(good).weights
    assert all(torch.equal(value, weights[name]) for name, value in expected.items())


_GOOD = b""


@pytest.fixture(autouse=True)
def _good_bytes(tiny_checkpoint: Path) -> None:
    global _GOOD
    _GOOD = tiny_checkpoint.read_bytes()


def test_hugging_face_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.EsmConfig(
        vocab_size=33,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        pad_token_id=1,
        mask_token_id=32,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
    )
    torch.manual_seed(0)
    theirs = transformers.EsmModel(config, add_pooling_layer=False).eval()
    theirs.save_pretrained(tmp_path / "hf")
    net, origin = load_esm2(tmp_path / "hf")
    assert origin.name == "custom"
    assert len(origin.sha256) == 64
    batch = collate_sequences(["MKTAYI#KQR"])
    with torch.no_grad():
        expected = theirs(
            batch.tokens[None], attention_mask=torch.ones(1, len(batch.tokens))
        ).last_hidden_state
        torch.testing.assert_close(net.eval()(batch.tokens, batch.packing), expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("not json", "cannot read the folder"),
        ('{"model_type": "bert"}', "another model; got model_type bert"),
    ],
)
def test_foreign_folder(config: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(tmp_path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for the publisher's site."""
    folder = tmp_path / "site"
    folder.mkdir()
    http_server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(folder))
    )
    thread = threading.Thread(target=http_server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.delenv("PROTCLIP_OFFLINE")
    monkeypatch.setattr(esm_weights, "URL", f"http://127.0.0.1:{http_server.server_port}/{{name}}.pt")
    yield folder
    http_server.shutdown()
    http_server.server_close()
    thread.join()


def test_download_once(tiny_published: Path, server: Path, tmp_path: Path) -> None:
    (server / f"{NAME}.pt").write_bytes(tiny_published.read_bytes())
    _, origin = initial_esm2(NAME, "auto")
    assert origin.kind == "pretrained"
    assert origin.source.startswith("http://127.0.0.1")
    assert origin.path == str(tmp_path / "cache" / "esm2" / f"{NAME}.pt")
    (server / f"{NAME}.pt").unlink()
    assert initial_esm2(NAME, "pretrained")[1].source == "protclip's cache"


def test_download_of_rubbish_leaves_nothing(tiny_published: Path, server: Path, tmp_path: Path) -> None:
    (server / f"{NAME}.pt").write_bytes(b"<html>sign in to this network</html>")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        fetch_weights(NAME)
    assert not list((tmp_path / "cache" / "esm2").glob("*.pt"))


def test_missing_on_the_server_is_offline(server: Path) -> None:
    with pytest.raises(DownloadError, match="cannot reach"):
        remote_size(esm_weights.URL.format(name=NAME))
    assert initial_esm2(NAME, "auto")[1].fallback
