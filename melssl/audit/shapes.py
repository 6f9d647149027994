"""Broad shapes of pictures, from their leading cosine coefficients: turned, cropped, compared."""

from __future__ import annotations

from itertools import product

import numpy as np

BROAD = 8  # waves per axis that are compared
# The part of a picture that another may be a crop of: (kept share, place of its middle) per axis,
# in the picture's halves. Whole; a side or a corner cut by 8 %; a corner cut by 4 %.
_SIDES = ((1.0, 0.0), (0.92, -0.08), (0.92, 0.08))
_CORNERS = ((0.96, -0.04), (0.96, 0.04))
CROPS = np.array(
    [(*x, *y) for cuts in (_SIDES, _CORNERS) for x, y in product(cuts, repeat=2)], np.float32
)


def turned(waves: np.ndarray, orientation: int) -> np.ndarray:
    """Return the cosine coefficients (N, 3, W, W) of the flipped and turned pictures."""
    signs = (-1.0) ** np.arange(waves.shape[-1], dtype=np.float32)
    if orientation >= 4:
        waves = waves * signs
    for _ in range(orientation % 4):  # counter-clockwise: transposed, then upside down
        waves = waves.swapaxes(-1, -2) * signs[:, None]
    return waves


def cropped(waves: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Return the coefficients (N, 3, W, W) of a part of the pictures: the series, read there."""
    n_waves, n_points = waves.shape[-1], 4 * waves.shape[-1]
    points = (np.arange(n_points) + 0.5) * 2 / n_points - 1
    wave = np.arange(n_waves)
    norm = np.where(wave > 0, np.sqrt(2), 1)

    def matrix(share: float, middle: float) -> np.ndarray:
        there = np.cos(np.pi / 2 * wave * (share * points[:, None] + middle + 1)) * norm
        here = np.cos(np.pi / 2 * wave * (points[:, None] + 1)) * norm
        return np.asarray(here.T @ there / n_points, dtype=np.float32)

    return np.asarray(matrix(*crop[2:]) @ waves @ matrix(*crop[:2]).T)


def shape(waves: np.ndarray) -> np.ndarray:
    """Return (N, D) of unit length or less: coefficients weighted by frequency, as nature's fall.

    Colour weighs three tenths of brightness. A picture without contrast stays near 0.
    """
    frequency = np.hypot(*np.mgrid[: waves.shape[-1], : waves.shape[-1]]).astype(np.float32)
    bright = (frequency > 0) & (frequency < BROAD)
    colour = (frequency > 0) & (frequency < 3)
    weighted = waves * frequency
    parts = (weighted[:, 0][:, bright], 0.3 * _unit(weighted[:, 1:][:, :, colour]))
    return _unit(np.concatenate([_unit(parts[0]), parts[1]], 1), floor=1.0)


def _unit(vectors: np.ndarray, floor: float = 1.0) -> np.ndarray:
    flat = vectors.reshape(len(vectors), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), floor))
