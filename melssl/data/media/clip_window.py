"""Which frames of a clip are kept: how many, how far apart, and in which part of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np

Window = Literal["first", "middle", "motion"]
Short = Literal["bounce", "hold", "refuse"]


def spread(n_source: int, n_frames: int) -> np.ndarray:
    """Return ``n_frames`` places in a clip of ``n_source``: the middles of equal parts of it.

    In a clip with fewer frames some are taken twice.
    """
    return ((np.arange(n_frames) + 0.5) * n_source / n_frames).astype(np.int64)


def strided(start: int, n_source: int, n_frames: int, stride: int, short: Short) -> np.ndarray:
    """Return the places ``start, start + stride, ...`` of ``n_frames`` frames.

    Where the clip ends before, ``short`` says how it goes on: to and fro, or with its last frame.

    Raises:
        ValueError: it ends before and is to be refused.

    """
    places = start + stride * np.arange(n_frames)
    if places[-1] < n_source:
        return places
    if short == "refuse":
        raise ValueError(
            f"expected {places[-1] + 1} frames or more ({n_frames} of them, {stride} apart), got"
            f" {n_source}; lower n_frames or stride, or set short=bounce"
        )
    if short == "hold":
        return np.minimum(places, n_source - 1)
    period = 2 * (n_source - 1)
    folded = places % period
    return np.minimum(folded, period - folded)


def motion(frames: np.ndarray) -> np.ndarray:
    """Return the mean absolute change (T - 1,) from each frame of (T, S, S, C) to the next."""
    steps = [np.abs(after.astype(np.int16) - before).mean() for before, after in pairwise(frames)]
    return np.array(steps)


def start_of(window: Window, frames: np.ndarray, span: int) -> int:
    """Return where a part of ``span`` frames begins in (T, S, S, C).

    ``motion`` is where the frames change most, summed over the part; of two such the first.
    """
    room = len(frames) - span
    if room <= 0 or window == "first":
        return 0
    if window == "middle":
        return room // 2
    moved = np.concatenate([[0.0], np.cumsum(motion(frames))])
    return int(np.argmax(moved[span - 1 :] - moved[: room + 1]))
