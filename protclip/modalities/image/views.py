"""The SimCLR view of an image: crop, flip, colour jitter, greyscale, blur (Chen et al. 2020, appendix A)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protclip.data.paired.images import pillow
from protclip.typing import Pixels

# ITU-R 601, which Pillow and the published recipe use for grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def square(pixels: Pixels, size: int) -> Pixels:
    """The central square of an image [h, w, 3], resized to [size, size, 3]: what the tower is shown.

    Examples
    --------
    >>> square(np.zeros((4, 8, 3), np.uint8), 2).shape
    (2, 2, 3)
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    if height == width == size:
        return pixels
    left, top = (width - side) / 2, (height - side) / 2
    return _resize(pixels, (left, top, left + side, top + side), size)


def simclr_view(
    pixels: Pixels,
    size: int,
    rng: np.random.Generator,
    *,
    crop: float = 0.08,
    strength: float = 1.0,
    blur: float = 0.5,
) -> Pixels:
    """A random view [size, size, 3] of an image [h, w, 3].

    Parameters
    ----------
    pixels : uint8 array [h, w, 3]
    size : int
        Pixels per side of the view.
    rng : numpy Generator
        The only source of randomness.
    crop : float
        Smallest share of the area that is kept; the aspect ratio is 3/4 to 4/3.
    strength : float
        Of the colour jitter: brightness, contrast and saturation change by up to 0.8, the hue by up to
        0.2 of the circle, times this. Applied to 8 of 10 images; 2 of 10 lose their colour.
    blur : float
        Share of the images blurred, with a Gaussian of 0.1 to 2 pixels at 224 pixels, scaled to ``size``.

    Examples
    --------
    >>> image = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    >>> first, second = (simclr_view(image, 8, np.random.default_rng(1)) for _ in range(2))
    >>> first.shape, np.array_equal(first, second)
    ((8, 8, 3), True)
    """
    # Everything is drawn in one fixed order, whatever is applied.
    box = _random_box(pixels.shape[0], pixels.shape[1], rng, crop)
    flip, jitter, grey, blurred = rng.random(4)
    amounts = rng.uniform(-1, 1, 4)
    order = rng.permutation(4)
    sigma = rng.uniform(0.1, 2.0) * size / 224
    view = _resize(pixels, box, size)
    if flip < 0.5:
        view = view[:, ::-1]
    if jitter < 0.8 and strength > 0:
        view = _jitter(view, amounts * strength, order)
    if grey < 0.2:
        view = np.repeat(np.round(view @ _LUMA)[..., None].clip(0, 255).astype(np.uint8), 3, axis=2)
    if blurred < blur:
        view = _blur(view, sigma)
    return np.ascontiguousarray(view)


def _random_box(
    height: int, width: int, rng: np.random.Generator, crop: float
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a random part; the largest allowed central one where ten draws miss."""
    draws = rng.random((10, 4))
    for share, shape, across, down in draws:
        area = height * width * (crop + (1 - crop) * share)
        ratio = math.exp(math.log(3 / 4) + shape * 2 * math.log(4 / 3))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = across * (width - w), down * (height - h)
            return left, top, left + w, top + h
    w, h = min(width, height * 4 / 3), min(height, width * 4 / 3)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _resize(pixels: Pixels, box: tuple[float, float, float, float], size: int) -> Pixels:
    module = pillow()
    # Rounding may put the box a hair outside, which Pillow refuses.
    height, width = pixels.shape[:2]
    inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height))
    image = module.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((size, size), module.Resampling.BICUBIC, box=inside))


def _jitter(view: Pixels, amounts: NDArray[np.float64], order: NDArray[np.int64]) -> Pixels:
    x = view.astype(np.float32)
    for step in order:
        factor = np.float32(max(0.0, 1 + 0.8 * amounts[step]))
        if step == 0:
            x = x * factor
        elif step == 1:
            mean = np.float32((x @ _LUMA).mean())
            x = (x - mean) * factor + mean
        elif step == 2:
            grey = (x @ _LUMA)[..., None]
            x = (x - grey) * factor + grey
        else:
            x = _turn_hue(x, 0.2 * float(amounts[step]))
        x = x.clip(0, 255)
    return np.round(x).astype(np.uint8)


def _turn_hue(x: NDArray[np.float32], turn: float) -> NDArray[np.float32]:
    """Shift the hue by ``turn`` of the circle, through Pillow's 8-bit HSV."""
    module = pillow()
    hsv = np.array(module.fromarray(np.round(x).astype(np.uint8)).convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(np.int64) + round(turn * 255)) % 256
    turned = module.merge("HSV", [module.fromarray(np.ascontiguousarray(hsv[..., i])) for i in range(3)])
    return np.asarray(turned.convert("RGB"), np.float32)


def _blur(view: Pixels, sigma: float) -> Pixels:
    """Separable Gaussian, edges repeated."""
    radius = max(1, math.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    x = view.astype(np.float32)
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (radius, radius)
        padded = np.pad(x, width, mode="edge")
        n = x.shape[axis]
        x = sum(
            (k * np.take(padded, range(i, i + n), axis=axis) for i, k in enumerate(kernel)),
            np.zeros_like(x),
        )
    return np.round(x).clip(0, 255).astype(np.uint8)
