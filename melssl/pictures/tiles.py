"""Tile: one small image of a picture and its place in a grid; a picture is the frame of its tiles.

Pixels travel in the frame itself, as PNG in base64: whoever has the frame has the picture.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

MOST_PX = 112  # a tile is printed an inch wide or less
NOTHING = 0.5  # grey, where nothing was shown: skin is never grey
COLUMNS = (
    *("row", "column", "row_label", "column_label", "value", "mark", "sample_id", "by_weights"),
    *("pixels", "heat"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """An image (H, W, 3), or a grey one (H, W), in 0..1, at a place of a grid.

    NaN is where nothing was shown. ``heat`` (h, w) in 0..1 is to be laid over it. Equal labels side
    by side are one heading. ``value`` is printed below it, ``mark`` frames it. What the weights had
    no part in (the images themselves) is not ``by_weights``.
    """

    row: int
    column: int
    image: np.ndarray
    heat: np.ndarray | None = None
    row_label: str = ""
    column_label: str = ""
    value: float = float("nan")
    mark: str = ""
    sample_id: str = ""
    by_weights: bool = True


def framed(tiles: Iterable[Tile]) -> pd.DataFrame:
    """Return one row per tile with ``COLUMNS``; values are rounded as they may be printed."""
    rows = [
        (
            *(tile.row, tile.column, tile.row_label, tile.column_label),
            *(round(tile.value, 6), tile.mark, tile.sample_id, tile.by_weights),
            *(_png(_small(tile.image)), "" if tile.heat is None else _png(tile.heat)),
        )
        for tile in tiles
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def stretched(values: np.ndarray) -> np.ndarray:
    """Return values from their least, 0, to their greatest, 1; zeros where all are equal."""
    low, span = values.min(), np.ptp(values)
    scaled: np.ndarray = (values - low) / span if span > 0 else np.zeros_like(values)
    return scaled


def _small(image: np.ndarray) -> np.ndarray:
    """Return the image at most ``MOST_PX`` wide, areas averaged."""
    share = -(-max(image.shape[:2]) // MOST_PX)
    if share == 1:
        return image
    rows, columns = image.shape[0] // share * share, image.shape[1] // share * share
    cells = image[:rows, :columns].reshape(rows // share, share, columns // share, share, -1)
    smaller: np.ndarray = cells.mean(axis=(1, 3))
    return smaller.squeeze(-1) if image.ndim == 2 else smaller


def _png(image: np.ndarray) -> str:
    whole = np.nan_to_num(image.astype(np.float64), nan=NOTHING)
    levels = np.round(255 * whole.clip(0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
