"""Lays one small grey picture over another: a stretch and a shift along each axis.

A *placing* is (stretch across, shift across, stretch down, shift down): the point u of the
reference, counted from -1 to 1 along an axis, lies at ``stretch * u + shift`` in the other picture.
"""

from __future__ import annotations

import numpy as np

STEP = 0.08  # longest step along an axis, in half sides: the pictures are linear no further
STRETCH = (0.82, 1.22)  # two crops of 10 % against each other, and a little more
SHIFT = 0.3


def settle(
    reference: np.ndarray, other: np.ndarray, placings: np.ndarray, steps: int
) -> np.ndarray:
    """Return better placings (B, 4) of ``reference`` (B, S, S) in ``other``, by Gauss-Newton steps.

    Each step solves reference = gain * placed + gain * gradient . change for gain and change by
    least squares over the points that both pictures hold, so that contrast does not matter
    (Evangelidis and Psarakis, IEEE TPAMI 30(10), 2008, in the form with a free gain).
    """
    u = _points(reference.shape[-1])
    for _ in range(steps):
        placed, held = _placed(other, placings)
        down, across = np.gradient(placed, 2 / len(u), axis=(1, 2))
        moves = np.stack([placed, across * u, across, down * u[:, None], down], 1)
        moves = (moves * held[:, None]).reshape(len(placed), 5, len(u) ** 2)
        normal = moves @ moves.swapaxes(1, 2)
        ridge = np.trace(normal, axis1=1, axis2=2)[:, None, None] * 2e-4 + 1e-6
        target = moves @ (reference * held).reshape(len(placed), len(u) ** 2, 1)
        solved = np.linalg.solve(normal + ridge * np.eye(5, dtype=np.float32), target)[..., 0]
        gain = np.maximum(solved[:, :1], 0.2)
        placings = placings + np.clip(solved[:, 1:] / gain, -STEP, STEP)
        placings[:, 0::2] = np.clip(placings[:, 0::2], *STRETCH)
        placings[:, 1::2] = np.clip(placings[:, 1::2], -SHIFT, SHIFT)
    return placings


def agreement(reference: np.ndarray, other: np.ndarray, placings: np.ndarray) -> np.ndarray:
    """Return (B,) correlations between pictures (B, S, S) over the points that both hold."""
    placed, held = _placed(other, placings)
    count = held.sum((1, 2), keepdims=True)
    one, two = (
        (picture - (picture * held).sum((1, 2), keepdims=True) / count) * held
        for picture in (reference, placed)
    )
    power = (one * one).sum((1, 2)) * (two * two).sum((1, 2))
    return np.asarray((one * two).sum((1, 2)) / np.sqrt(power + 1e-6))


def _placed(other: np.ndarray, placings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``other`` as the reference sees it, and 1 where it is inside, else 0 (B, S, S)."""
    side = other.shape[-1]
    across, inside_across = _reading(placings[:, 0], placings[:, 1], side)
    down, inside_down = _reading(placings[:, 2], placings[:, 3], side)
    held = inside_down[:, :, None] * inside_across[:, None, :]
    return down @ other @ across.swapaxes(1, 2), held


def _reading(stretch: np.ndarray, shift: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return linear interpolation along an axis as matrices (B, S, S), and what lies inside."""
    at = (stretch[:, None] * _points(side) + shift[:, None] + 1) * side / 2 - 0.5
    weights = np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights, ((at > -0.01) & (at < side - 0.99)).astype(np.float32)


def _points(side: int) -> np.ndarray:
    return ((np.arange(side) + 0.5) * 2 / side - 1).astype(np.float32)
