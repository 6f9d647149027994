"""Every kind of image file becomes the same kind of square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melssl.data.decode import decode


def _gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    parts = (255 * x / (width - 1), 255 * y / (height - 1), np.full_like(x, 99.0, dtype=float))
    return np.stack(parts, axis=-1).round().astype(np.uint8)


def _saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_crop_keeps_the_centre_and_squash_the_whole(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    path = _saved(Image.fromarray(pixels), tmp_path / "a.png")
    assert (decode(path, 10, "crop")[:, 2:-2] == 200).all()
    squashed = decode(path, 12, "squash")
    assert squashed.shape == (12, 12, 3)
    assert (squashed[:, [0, -1]] == 0).all()
    assert (np.abs(squashed[:, 5:7].astype(int) - 200) < 5).all()  # bicubic overshoots


def test_an_image_of_the_wanted_size_is_unchanged(tmp_path: Path) -> None:
    pixels = _gradient(16, 16)
    path = _saved(Image.fromarray(pixels), tmp_path / "a.png")
    np.testing.assert_array_equal(decode(path, 16, "crop"), pixels)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_shrinking_averages_and_does_not_alias(suffix: str, tmp_path: Path) -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    path = _saved(Image.fromarray(stripes), tmp_path / f"a.{suffix}", **options)
    assert np.abs(decode(path, 32, "crop").astype(int) - 127).max() <= 3


def test_the_fast_way_through_a_large_jpeg_gives_the_pixels_of_the_slow_one(
    tmp_path: Path,
) -> None:
    path = _saved(Image.fromarray(_gradient(900, 1200)), tmp_path / "a.jpg", quality=95)
    with Image.open(path) as image:
        slow = image.crop((150, 0, 1050, 900)).resize((64, 64), Image.Resampling.BICUBIC)
    difference = np.abs(decode(path, 64, "crop").astype(int) - np.asarray(slow).astype(int))
    assert difference.mean() < 0.5
    assert difference.max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    upright = _gradient(24, 40)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    plain = _saved(Image.fromarray(upright), tmp_path / "b.png")
    np.testing.assert_array_equal(decode(path, 12, "squash"), decode(plain, 12, "squash"))


def test_grey_bilevel_palette_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = Image.new("L", (8, 8), 77)
    assert (decode(_saved(grey, tmp_path / "l.png"), 8, "crop") == 77).all()
    bilevel = Image.new("1", (8, 8), 1)
    assert (decode(_saved(bilevel, tmp_path / "1.png"), 8, "crop") == 255).all()
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    palette = decode(_saved(red.quantize(4), tmp_path / "p.png"), 8, "crop")
    assert (palette == [200, 30, 40]).all()
    cmyk = decode(_saved(red.convert("CMYK"), tmp_path / "c.tif"), 8, "crop")
    assert (cmyk == [200, 30, 40]).all()


def test_sixteen_bits_keep_their_full_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a.png", "a.tif"):
        pixels = decode(_saved(Image.fromarray(values), tmp_path / name), 8, "crop")
        np.testing.assert_array_equal(pixels[..., 0], np.rint(values / 257))
        assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_black(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (250, 250, 250, 0))
    image.paste((100, 100, 100, 255), (0, 0, 8, 4))
    pixels = decode(_saved(image.convert(mode), tmp_path / "a.png"), 8, "crop")
    assert (pixels[:3] == 100).all()
    assert (pixels[5:] == 0).all()


def test_pixels_without_a_known_range_are_refused(tmp_path: Path) -> None:
    path = _saved(Image.fromarray(np.ones((8, 8), np.float32)), tmp_path / "a.tif")
    with pytest.raises(ValueError, match="mode F have no known range"):
        decode(path, 8, "crop")
