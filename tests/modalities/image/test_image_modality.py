"""Images: what is read, what the tower is shown, what a view is, and where weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from protclip.errors import ConfigError, DataError, ProtclipError, WeightsError
from protclip.modalities.image.adapter import ImageModality
from protclip.modalities.image.networks import HALF, IMAGENET
from protclip.modalities.image.pictures import KEPT_IN_MEMORY, Picture
from protclip.modalities.image.views import simclr_view, square

RNG = np.random.default_rng(0)


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """Smooth random colours, as in photographs."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def side() -> ImageModality:
    return ImageModality.create("tiny", size=32)


def test_a_folder_is_read_with_its_damage(side: ImageModality, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.jpg"):
        Image.fromarray(picture()).save(tmp_path / name)
    (tmp_path / "c.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image either")
    found = dict(side.read(tmp_path))
    assert list(found) == ["b", "c", "deep/a"]
    assert isinstance(found["c"], DataError)
    assert isinstance(found["b"], Picture)
    assert side.accepts(tmp_path)
    assert side.accepts(tmp_path / "b.png")
    assert not side.accepts(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="no images in the folder"):
        list(side.read(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty"))


def test_arrays_images_paths_and_pairs_are_the_same(side: ImageModality, tmp_path: Path) -> None:
    array = picture(30, 30)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    sources: list[Any] = [array, Image.fromarray(array), path, [array], {"x": array}, [("x", path)], [path]]
    digests = set()
    for source in sources:
        ((_, item),) = side.read(source)
        assert isinstance(item, Picture)
        digests.add(side.digest(item))
    assert len(digests) == 1
    with pytest.raises(DataError, match="cannot be read as images; got int"):
        list(side.read(3))
    bad = dict(
        side.read(
            {
                "float": array / 255,
                "flat": np.zeros(3, np.uint8),
                "none": np.zeros((0, 3, 3), np.uint8),
                "int": 3,
            }
        )
    )
    assert all(isinstance(item, DataError) for item in bad.values())


def test_unusual_images_are_counted(side: ImageModality) -> None:
    items = dict(side.read({"g": picture()[..., 0], "h": picture(seed=1)[..., 0], "c": picture()}))
    assert side.remarks([i for i in items.values() if isinstance(i, Picture)]) == {
        "greyscale, repeated in three channels": 2
    }


def test_equal_pixels_are_copies_and_others_are_not(side: ImageModality, tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.bmp", 0), ("c.png", 1)):
        Image.fromarray(picture(30, 30, seed)).save(tmp_path / name)
    a, b, c = (side.digest(item) for _, item in side.read(tmp_path) if isinstance(item, Picture))
    assert a == b != c
    assert side.equal_items_leak


def test_large_images_are_decoded_again_when_needed(tmp_path: Path) -> None:
    side = ImageModality.create("tiny", size=KEPT_IN_MEMORY + 4)
    path = tmp_path / "a.png"
    Image.fromarray(picture(300, 400)).save(path)
    ((_, item),) = side.read(path)
    assert isinstance(item, Picture)
    assert item.pixels is None
    ((_, kept),) = side.read({"a": picture(300, 400)})
    assert isinstance(kept, Picture)
    assert kept.pixels is not None
    assert min(kept.pixels.shape[:2]) == round(side.size * 8 / 7)
    torch.testing.assert_close(side.collate([item]).tensors[0], side.collate([kept]).tensors[0])


def test_the_central_square_is_shown(side: ImageModality) -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = picture(32, 32)
    np.testing.assert_array_equal(square(wide, 32), wide[:, 32:64])
    ((_, item),) = side.read({"a": wide})
    assert isinstance(item, Picture)
    shown = side.collate([item]).tensors[0]
    assert shown.shape == (1, 3, 32, 32)
    assert shown.dtype == torch.uint8
    np.testing.assert_array_equal(shown[0].permute(1, 2, 0).numpy(), wide[:, 32:64])
    assert side.collate([]).tensors[0].shape == (0, 3, 32, 32)


def test_a_row_does_not_depend_on_the_others(side: ImageModality) -> None:
    items = [item for _, item in side.read([picture(seed=i) for i in range(5)]) if isinstance(item, Picture)]
    encoder = side.encoder.eval()
    with torch.inference_mode():
        together = encoder(side.collate(items))
        alone = torch.cat([encoder(side.collate([item])) for item in items])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.shape == (5, encoder.out_dim)


def test_normalisation_is_that_of_the_constants(side: ImageModality) -> None:
    seen: list[torch.Tensor] = []
    handle = side.encoder.net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    side.encoder.eval()(side.collate([Picture(b"", (), np.full((32, 32, 3), 255, np.uint8))]))
    handle.remove()
    assert torch.equal(seen[0], torch.ones(1, 3, 32, 32))


def test_a_view_is_a_function_of_the_generator(side: ImageModality) -> None:
    item = Picture(b"", (), picture())
    first, again, other = (side.augment(item, np.random.default_rng(s)).pixels for s in (1, 1, 2))
    assert first is not None
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (32, 32, 3)


def test_views_have_the_published_frequencies() -> None:
    flat = np.broadcast_to(np.array([180, 90, 40], np.uint8), (16, 16, 3)).copy()
    views = [simclr_view(flat, 8, np.random.default_rng([5, i])) for i in range(1500)]
    grey = np.mean([(np.ptp(v.astype(int), axis=2) <= 1).all() for v in views])
    same = np.mean([np.array_equal(v, flat[:8, :8]) for v in views])
    assert grey == pytest.approx(0.2, abs=0.04)
    # Neither jittered (0.2) nor made grey (0.8); blur does not change a flat image.
    assert same == pytest.approx(0.2 * 0.8, abs=0.04)


def test_crops_cover_what_they_may_and_flips_are_fair() -> None:
    across = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3)).copy()
    shares, flips = [], []
    for i in range(600):
        view = simclr_view(across, 64, np.random.default_rng([6, i]), strength=0, blur=0).astype(int)
        edge = view[32, 4, 0], view[32, -5, 0]
        flips.append(edge[0] > edge[1])
        shares.append(abs(edge[1] - edge[0]) / 55 * 64 / 256)
    assert np.mean(flips) == pytest.approx(0.5, abs=0.07)
    # The width of a crop is sqrt(area x ratio): from sqrt(0.08 x 3/4) to 1.
    assert min(shares) > 0.95 * np.sqrt(0.08 * 0.75)
    assert max(shares) <= 1.02
    area = np.square(shares)  # up to the ratio, whose logarithm is fair
    assert np.median(area) == pytest.approx(0.52, abs=0.1)


def test_extreme_images_have_views_too() -> None:
    for shape in ((1, 1, 3), (1, 500, 3), (500, 2, 3)):
        for i in range(20):
            assert simclr_view(np.zeros(shape, np.uint8), 16, np.random.default_rng(i)).shape == (16, 16, 3)
        assert square(np.zeros(shape, np.uint8), 16).shape == (16, 16, 3)


def test_blur_is_a_gaussian() -> None:
    from scipy.ndimage import gaussian_filter1d

    from protclip.modalities.image.views import _blur

    image = RNG.integers(0, 256, (30, 30, 3), dtype=np.uint8)
    sigma = 1.3
    expected = image.astype(float)
    for axis in (0, 1):
        expected = gaussian_filter1d(
            expected, sigma, axis=axis, mode="nearest", radius=int(np.ceil(3 * sigma))
        )
    assert np.abs(_blur(image, sigma) - expected).max() <= 0.51


@pytest.mark.parametrize("options", [{"size": 4}, {"crop": 0.0}, {"strength": 2.0}, {"blur": -0.1}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ImageModality.create("tiny", **options)


def test_config_round_trip(side: ImageModality) -> None:
    again = ImageModality.from_config(side.config())
    assert again.config() == side.config()
    again.encoder.load_state_dict(side.encoder.state_dict())
    items = [item for _, item in side.read([picture()]) if isinstance(item, Picture)]
    batch = side.collate(items)
    assert torch.equal(again.encoder.eval()(batch), side.encoder.eval()(batch))


def test_the_seed_decides_the_random_weights_and_nothing_else() -> None:
    torch.manual_seed(0)
    before = torch.rand(1)
    torch.manual_seed(0)
    a, b, c = (ImageModality.create("tiny", seed=seed).encoder.state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.rand(1))
    name = next(name for name, value in a.items() if value.ndim == 4)
    assert torch.equal(a[name], b[name])
    assert not torch.equal(a[name], c[name])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A residual network and a vision transformer as the transformers library saves them."""
    from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck")
    vit = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=48,
        patch_size=16,
    )
    ResNetModel(resnet).save_pretrained(root / "resnet")
    ViTModel(vit).save_pretrained(root / "vit")
    (root / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 4]}'
    )
    return {"resnet": root / "resnet", "vit": root / "vit"}


def test_pretrained_networks_from_a_folder(folders: dict[str, Path]) -> None:
    from transformers import ResNetModel, ViTModel

    pixels = Picture(b"", (), picture(48, 48))
    resnet = ImageModality.create(str(folders["resnet"]), size=48)
    assert resnet.frozen
    assert resnet.pretrained
    assert resnet.normalisation == tuple(map(list, IMAGENET))
    x = torch.tensor(pixels.pixels).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor(IMAGENET[0]).view(3, 1, 1)) / torch.tensor(IMAGENET[1]).view(3, 1, 1)
    expected = ResNetModel.from_pretrained(folders["resnet"]).eval()(x).pooler_output.flatten(1)
    torch.testing.assert_close(resnet.encoder.eval()(resnet.collate([pixels])), expected)

    vit = ImageModality.create("vit-b32", weights=str(folders["vit"]), tune="full")
    assert vit.size == 48
    assert not vit.frozen
    assert vit.normalisation == ([0.1, 0.2, 0.3], [1.0, 2.0, 4.0])
    x = torch.tensor(pixels.pixels).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    expected = ViTModel.from_pretrained(folders["vit"]).eval()(x).last_hidden_state[:, 0]
    torch.testing.assert_close(vit.encoder.eval()(vit.collate([pixels])), expected)
    assert not any("pooler" in name for name, _ in vit.encoder.named_parameters())
    assert "SHA-256" in vit.provenance.message
    larger = ImageModality.create(str(folders["vit"]), size=64)
    assert larger.encoder.eval()(larger.collate([pixels])).shape == (1, 16)


def test_published_names_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"no weights of microsoft/resnet-50 on disk.*weights=FOLDER"):
        ImageModality.create("resnet50", init="pretrained")
    side = ImageModality.create("vit-b32")
    assert side.provenance.fallback
    assert "FROM SCRATCH" in side.provenance.message
    assert (side.provenance.name, side.size, side.tune, side.frozen) == ("small", 64, "full", False)
    assert side.normalisation == (list(HALF), list(HALF))


def test_published_architectures_from_random_weights() -> None:
    sizes = {name: ImageModality.create(name, init="random") for name in ("resnet50", "vit-b32")}
    assert [side.encoder.out_dim for side in sizes.values()] == [2048, 768]
    assert [side.size for side in sizes.values()] == [224, 224]
    parameters = [side.describe()["parameters"] / 1e6 for side in sizes.values()]
    assert parameters == pytest.approx([23.5, 87.5], abs=0.2)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"encoder": "resnet51"}, "unknown tower"),
        ({"encoder": "small", "init": "pretrained"}, "no published weights"),
        ({"encoder": "small", "init": "never"}, "unknown choice"),
        ({"encoder": "tiny", "tune": "lora"}, "unknown choice"),
        ({"encoder": "small", "weights": "/nowhere"}, "no weights of the transformers library here"),
        ({"encoder": "small", "weights": "/nowhere", "init": "random"}, "contradict"),
    ],
)
def test_refusals(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ProtclipError, match=error):
        ImageModality.create(**options)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ProtclipError, match=r"pip install 'protclip\[image-text\]'"):
        ImageModality.create("tiny")
