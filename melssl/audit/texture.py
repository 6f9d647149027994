"""What tells two lesions apart: hair, pores and pigment, with the blob and the lens taken away."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

NOISE = 2.0  # grey levels: below, there is only compression to see
DARK, WHITE = 60, 250  # grey levels of what surrounds a round field of view
MARGIN = 1.5  # pixels, the width of a blur: how far a surround's edge reaches


def textures(grey: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the textures of pictures (B, S, S) uint8 at a quarter, half and all of their side.

    In 16 bits: of 33k pictures of 64 pixels they take 350 MB.
    """
    whole, inside = grey.astype(np.float32), _inside(grey)
    half, inside_half = _halved(whole), _halved(inside)
    quarter, inside_quarter = _halved(half), _halved(inside_half)
    return (
        _texture(quarter, inside_quarter, finest=0.7, broadest=2).astype(np.float16),
        _texture(half, inside_half, finest=0.7, broadest=2).astype(np.float16),
        _texture(whole, inside, finest=0.8, broadest=2.5).astype(np.float16),
    )


def _texture(grey: np.ndarray, inside: np.ndarray, *, finest: float, broadest: float) -> np.ndarray:
    """Return what pictures (B, S, S) show between two widths in pixels, its contrast levelled.

    The difference of two Gaussians, divided by its own deviation nearby: a lesion's broad blob and
    slope of light are gone, and a strong edge (ruler, hair) counts no more than pigment.
    """
    band = (_blurred(grey, finest) - _blurred(grey, broadest)) * inside
    return np.asarray(band / np.sqrt(_blurred(band * band, 6) + NOISE**2))


def _inside(grey: np.ndarray) -> np.ndarray:
    """Return 0 in and beside the black or white surround of a lens (B, S, S), else 1.

    One lens makes all its pictures alike. A surround is joined to the border; what covers most of a
    picture is no surround.
    """
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)  # no neighbours in other pictures
    labels, count = ndimage.label((grey < DARK) | (grey >= WHITE), flat)
    outer = np.zeros(count + 1, bool)
    for border in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outer[border] = True
    outer[0] = False
    surround = outer[labels]
    surround[surround.mean((1, 2)) > 0.6] = False
    return (_blurred(surround.astype(np.float32), MARGIN) < 0.02).astype(np.float32)


def _halved(grey: np.ndarray) -> np.ndarray:
    """Return pictures (B, S, S) at half their side."""
    count, side, _ = grey.shape
    return np.asarray(grey.reshape(count, side // 2, 2, side // 2, 2).mean((2, 4)))


def _blurred(grey: np.ndarray, width: float) -> np.ndarray:
    matrix = _blur(grey.shape[-1], width)
    return np.asarray(matrix @ grey @ matrix.T)


@cache
def _blur(side: int, width: float) -> np.ndarray:
    """Return a Gaussian blur along an axis as a matrix (S, S), mirrored at the ends."""
    at = np.arange(-side, 2 * side)
    weights = np.exp(-(((np.arange(side)[:, None] - at) / width) ** 2) / 2)
    left, middle, right = np.split(weights, 3, axis=1)
    folded = middle + left[:, ::-1] + right[:, ::-1]
    return np.asarray(folded / folded.sum(1, keepdims=True), dtype=np.float32)
