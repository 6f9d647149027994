"""Near pairs: every alteration of a picture is found, and two lesions that look alike are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageDraw, ImageEnhance

from melssl.audit.align import agreement, settle
from melssl.audit.fingerprints import WAVES, Fingerprints, fingerprints
from melssl.audit.near import NEAR, ORIENTATIONS, PROPOSED, near_pairs
from melssl.audit.shapes import cropped, shape, turned
from melssl.audit.texture import textures

Picture = Image.Image
SIZE = (176, 132)


def _lesion(seed: int) -> Picture:
    """Draw pink skin with a dark blob, the same for all seeds; pores, pigment and hair are not."""
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]))
    blob = 1 / (1 + np.exp(20 * (np.hypot((across - 0.1) / 1.1, down + 0.1) - 0.5)))
    grain = Image.fromarray(rng.normal(size=(33, 44)).astype(np.float32)).resize(SIZE)
    skin = np.array([225, 165, 150]) - blob[..., None] * np.array([120, 100, 90])
    skin = skin + (6 + 16 * blob[..., None]) * np.asarray(grain)[..., None]
    picture = Image.fromarray(skin.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(4):
        ends = rng.uniform(0, 1, (2, 2)) * SIZE
        pen.line([tuple(end) for end in ends], fill=(70, 40, 35), width=2)
    return picture


def _jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _cut(picture: Picture, left: float, top: float, right: float, bottom: float) -> Picture:
    width, height = picture.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return picture.crop(tuple(round(edge) for edge in box))


def _warmer(picture: Picture) -> Picture:
    return Image.fromarray((np.asarray(picture) * [1.05, 1.0, 0.95]).clip(0, 255).astype(np.uint8))


def _seen(picture: Picture, orientation: str) -> Picture:
    """Flip and turn as the words say."""
    pixels = np.asarray(picture)
    pixels = pixels[:, ::-1] if "flipped" in orientation else pixels
    turns = sum(quarters for quarters in (1, 2, 3) if str(90 * quarters) in orientation)
    return Image.fromarray(np.rot90(pixels, turns).copy())


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "half size": lambda p: p.resize((SIZE[0] // 2, SIZE[1] // 2)),
    "twice the size": lambda p: p.resize((SIZE[0] * 2, SIZE[1] * 2)),
    "squashed": lambda p: p.resize((100, 100)),
    "recompressed": lambda p: _jpeg(p, 40),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "warmer": _warmer,
    "corner cut by 5 %": lambda p: _cut(p, 0.05, 0.05, 0, 0),
    "corner cut by 10 %": lambda p: _cut(p, 0, 0.1, 0.1, 0),
    "side cut by 10 %": lambda p: _cut(p, 0.1, 0, 0, 0),
    "all sides cut": lambda p: _cut(p, 0.04, 0.05, 0.06, 0.03),
    "cut, flipped, recompressed": lambda p: _jpeg(_seen(_cut(p, 0.1, 0.1, 0, 0), "flipped"), 60),
}


@pytest.fixture
def prints(tmp_path: Path) -> Callable[..., Fingerprints]:
    """Return a maker of fingerprints of pictures, each written to a file."""

    def make(*pictures: Picture) -> Fingerprints:
        paths = [tmp_path / f"{place}.png" for place in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            picture.save(path, compress_level=1)
        return fingerprints(paths)

    return make


LESIONS = [_lesion(seed) for seed in range(6)]


@pytest.mark.parametrize("change", CHANGES)
def test_an_altered_copy_is_found_and_nothing_else(
    change: str, prints: Callable[..., Fingerprints]
) -> None:
    (pair,) = near_pairs(prints(*LESIONS, CHANGES[change](LESIONS[2])))
    assert (pair.first, pair.second) == (2, 6)
    assert NEAR <= pair.similarity <= 1
    assert pair.orientation == ("flipped" if "flipped" in change else "as is")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_orientation_named_turns_the_second_into_the_first(
    orientation: str, prints: Callable[..., Fingerprints]
) -> None:
    second = LESIONS[0]
    for others in (LESIONS[1:2], LESIONS[2:4]):  # other hashes, so either may be compared first
        copy = _jpeg(_seen(second, orientation), 90)
        (pair,) = near_pairs(prints(copy, second, *others))
        assert pair.orientation == orientation
        (pair,) = near_pairs(prints(second, copy, *others))
        back = _seen(_seen(second, orientation), pair.orientation)
        np.testing.assert_array_equal(np.asarray(back), np.asarray(second))


def test_two_lesions_of_one_broad_shape_are_proposed_and_refused(
    prints: Callable[..., Fingerprints],
) -> None:
    made = prints(*LESIONS)
    alike = shape(made.coarse.reshape(-1, 3, WAVES, WAVES))
    assert (alike @ alike.T).min() > PROPOSED
    assert near_pairs(made) == []


def test_the_round_view_of_one_lens_makes_no_pair(prints: Callable[..., Fingerprints]) -> None:
    view = np.hypot(*np.meshgrid(np.linspace(-1, 1, SIZE[0]), np.linspace(-1, 1, SIZE[1]))) < 0.9
    for ground in (8, 255):
        seen = [np.where(view[..., None], np.asarray(lesion), ground) for lesion in LESIONS]
        pictures = [Image.fromarray(each.astype(np.uint8)) for each in seen]
        copy = _jpeg(pictures[1], 60)
        (pair,) = near_pairs(prints(*pictures, copy), 0.7)
        assert (pair.first, pair.second) == (1, 6)


def test_pictures_without_contrast_are_like_nothing(prints: Callable[..., Fingerprints]) -> None:
    flat = [Image.new("RGB", SIZE, (grey, grey, grey)) for grey in (0, 90, 91, 255)]
    assert near_pairs(prints(*flat, LESIONS[0]), 0.0) == []


def test_of_byte_identical_files_one_stands_for_all(prints: Callable[..., Fingerprints]) -> None:
    copy = _jpeg(LESIONS[0], 70)
    assert near_pairs(prints(LESIONS[0], LESIONS[0], LESIONS[1])) == []
    (pair,) = near_pairs(prints(LESIONS[0], LESIONS[0], LESIONS[1], copy))
    assert (pair.first, pair.second) == (0, 3)


def test_what_could_not_be_read_is_in_no_pair(tmp_path: Path) -> None:
    for name, quality in (("a", 80), ("b", 90)):
        (tmp_path / f"{name}.png").write_text(name)
        LESIONS[0].save(tmp_path / f"{name}.jpg", quality=quality)
    paths = [tmp_path / name for name in ("a.png", "a.jpg", "b.png", "b.jpg")]
    (pair,) = near_pairs(fingerprints(paths))
    assert (pair.first, pair.second) == (1, 3)
    assert near_pairs(fingerprints(paths[::2])) == []
    assert near_pairs(fingerprints(paths[:1])) == []


def test_the_order_of_files_and_the_workers_change_no_pair(
    prints: Callable[..., Fingerprints],
) -> None:
    copies = [CHANGES["side cut by 10 %"](LESIONS[1]), _seen(LESIONS[4], "turned 90")]
    pictures = [*LESIONS, *copies, _jpeg(LESIONS[1], 50)]
    made = prints(*pictures)
    order = np.random.default_rng(1).permutation(len(pictures))
    moved = prints(*(pictures[row] for row in order))
    back = {
        frozenset((order[pair.first], order[pair.second])): round(pair.similarity, 4)
        for pair in near_pairs(moved, workers=2)
    }
    straight = {
        frozenset((pair.first, pair.second)): round(pair.similarity, 4) for pair in near_pairs(made)
    }
    assert back == straight
    assert straight.keys() >= {frozenset((1, 6)), frozenset((4, 7)), frozenset((1, 8))}


def test_waves_are_turned_and_cropped_as_their_picture_is() -> None:
    smooth = np.asarray(LESIONS[0].convert("L").resize((8, 8)).resize((48, 48)), np.float32)
    picture = np.stack([smooth, smooth.T, smooth[::-1]])

    def waves(pixels: np.ndarray) -> np.ndarray:
        kept = scipy.fft.dctn(pixels, axes=(1, 2), norm="ortho")[:, :WAVES, :WAVES]
        return kept[None] / pixels.shape[-1]

    for place in range(8):
        flipped = picture[:, :, ::-1] if place >= 4 else picture
        expected = waves(np.rot90(flipped, place % 4, axes=(1, 2)))
        np.testing.assert_allclose(turned(waves(picture), place), expected, atol=1e-3)
    part = cropped(waves(picture), np.array([5 / 6, 1 / 6, 5 / 6, -1 / 6]))
    np.testing.assert_allclose(part[..., :6, :6], waves(picture[:, :40, 8:])[..., :6, :6], atol=1)


def test_settling_finds_a_stretch_and_a_shift() -> None:
    large = np.asarray(LESIONS[0].convert("L"))
    whole = Image.fromarray(large)
    box = (0.06 * SIZE[0], 0.02 * SIZE[1], 0.98 * SIZE[0], 0.95 * SIZE[1])
    part = np.asarray(whole.resize((64, 64), Image.Resampling.BICUBIC, box))
    other = np.asarray(whole.resize((64, 64), Image.Resampling.BICUBIC))
    one, two = textures(part[None])[1].astype(np.float32), textures(other[None])[1]
    start = np.array([[1, 0, 1, 0]], np.float32)
    placing = settle(one, two.astype(np.float32), start, steps=15)
    np.testing.assert_allclose(placing[0], [0.92, 0.04, 0.93, -0.03], atol=0.01)
    assert agreement(one, two, placing)[0] > 0.95 > agreement(one, two, start)[0]
