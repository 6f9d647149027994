"""One image file to a square of RGB bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

Fit = Literal["crop", "squash"]


def decode(path: Path, size_px: int, fit: Fit) -> np.ndarray:
    """Return an image file as uint8 RGB of shape (size_px, size_px, 3), antialiased.

    ``"crop"`` keeps the centred square of the shorter side, ``"squash"`` the whole image. The EXIF
    orientation is applied, transparency lies on black, of several frames the first is taken, and
    16-bit grey keeps its high byte.

    Raises:
        OSError, ValueError and others of Pillow's: the file is no image, damaged, or of a kind
            whose range of values is not known (32-bit integers, floats).

    """
    with Image.open(path) as image:
        # JPEG only: decode at the smallest eighth that still leaves twice the wanted size
        image.draft(None, (2 * size_px, 2 * size_px))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        rgb = _rgb(image)
    width, height = rgb.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if fit == "crop" else None
    square = rgb.resize((size_px, size_px), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return np.asarray(square)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        high_byte = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return Image.fromarray(high_byte.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {image.mode} have no known range; write them as 8 or 16 bits"
        )
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
