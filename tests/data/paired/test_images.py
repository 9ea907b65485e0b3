"""Every kind of image file that users have becomes red, green and blue bytes, or a clear error."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protclip.data.paired.images import read_image
from protclip.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_plain_files_come_as_they_are(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp", ".tif", ".ppm"):
        found = read_image(saved(Image.fromarray(COLOUR), tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(found.pixels, COLOUR)
        assert found.notes == ()


def test_grey_and_bilevel_are_repeated(tmp_path: Path) -> None:
    found = read_image(saved(Image.fromarray(GREY), tmp_path / "g.png"))
    np.testing.assert_array_equal(found.pixels, np.repeat(GREY[..., None], 3, 2))
    assert found.notes == ("greyscale, repeated in three channels",)
    two = read_image(saved(Image.fromarray(GREY > 127), tmp_path / "b.png"))
    assert set(np.unique(two.pixels)) == {0, 255}


def test_cmyk_and_palette_keep_their_colours(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.array([200, 30, 60], np.uint8), (20, 30, 3))
    cmyk = read_image(saved(Image.fromarray(flat.copy()).convert("CMYK"), tmp_path / "c.jpg", quality=95))
    assert np.abs(cmyk.pixels.astype(int) - flat).max() <= 12
    assert cmyk.notes == ("CMYK converted to RGB",)
    palette = read_image(saved(Image.fromarray(flat.copy()).quantize(8), tmp_path / "p.png"))
    assert palette.notes == ("palette, converted to colours",)
    assert np.abs(palette.pixels.astype(int) - flat).max() <= 3


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    rgba = np.concatenate([COLOUR, np.full((20, 30, 1), 255, np.uint8)], 2)
    opaque = read_image(saved(Image.fromarray(rgba), tmp_path / "o.png"))
    np.testing.assert_array_equal(opaque.pixels, COLOUR)
    assert opaque.notes == ()
    rgba[:5, :, 3] = 0
    found = read_image(saved(Image.fromarray(rgba), tmp_path / "t.png"))
    assert (found.pixels[:5] == 255).all()
    np.testing.assert_array_equal(found.pixels[5:], COLOUR[5:])
    assert found.notes == ("transparent, laid over white",)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for suffix in (".gif", ".webp", ".tif"):
        path = tmp_path / f"a{suffix}"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == ".webp" else {})
        )
        found = read_image(path)
        assert found.pixels[4, 4].tolist() == pytest.approx([255, 0, 0], abs=3)
        assert "the first frame of several" in found.notes


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    deep = (GREY.astype(np.uint16) * 257).astype(np.uint16)
    for suffix in (".png", ".tif"):
        found = read_image(saved(Image.fromarray(deep), tmp_path / f"d{suffix}"))
        np.testing.assert_array_equal(found.pixels[..., 1], GREY)
        assert found.notes == ("16 or 32 bits per value, scaled to 8",)


def test_floats_are_scaled_by_their_range(tmp_path: Path) -> None:
    unit = read_image(saved(Image.fromarray(GREY.astype(np.float32) / 255), tmp_path / "f.tif"))
    np.testing.assert_array_equal(unit.pixels[..., 0], GREY)
    bad = saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), tmp_path / "n.tif")
    with pytest.raises(DataError, match="not finite"):
        read_image(bad)
    wide = saved(Image.fromarray(np.array([[-5.0, 1e6]], np.float32)), tmp_path / "w.tif")
    with pytest.raises(DataError, match="no known range; got -5 to 1e"):
        read_image(wide)


def test_exif_turns_the_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the upright picture is rotated by 90 degrees clockwise
    found = read_image(saved(Image.fromarray(COLOUR), tmp_path / "e.png", exif=exif))
    np.testing.assert_array_equal(found.pixels, np.rot90(COLOUR, -1))
    assert found.notes == ("turned upright as EXIF says",)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "text.jpg", "empty.png", "missing.jpg"])
def test_unreadable_files_are_data_errors_that_name_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    large = Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    if name.startswith("cut"):
        saved(large, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif name == "text.jpg":
        path.write_text("<html>404</html>")
    elif name == "empty.png":
        path.touch()
    with pytest.raises(DataError, match=name):
        read_image(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.fromarray(COLOUR), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(path)


def test_reduced_to_the_shorter_side(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 400).astype(np.uint8)[None, :, None], (200, 400, 3))
    for suffix in (".png", ".jpg"):
        found = read_image(saved(Image.fromarray(ramp.copy()), tmp_path / f"r{suffix}"), shortest=20).pixels
        assert found.shape == (20, 40, 3)
        # Each pixel of the reduced ramp is the mean of ten columns.
        assert np.abs(found[10, 2:-2, 0] - ramp[0, :, 0].reshape(40, 10).mean(1)[2:-2]).max() < 4
    assert read_image(Image.fromarray(COLOUR), shortest=500).pixels.shape == (20, 30, 3)


def test_bytes_and_images_are_taken_too() -> None:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).save(stream, "PNG")
    np.testing.assert_array_equal(read_image(stream.getvalue()).pixels, COLOUR)
