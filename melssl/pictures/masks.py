"""Masks of three test volumes, true and drawn, over a slice: the best, the median, the worst."""

from __future__ import annotations

import numpy as np
import pandas as pd

from melssl.artifacts import SLICES
from melssl.errors import PictureError
from melssl.evaluation.segmenting.slices import SHOWN
from melssl.pictures.subject import Subject
from melssl.pictures.tiles import Tile, framed

# Okabe-Ito, as figures have them, in 0..1; of more structures than colours they come again.
COLOURS = np.array([(230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167)]) / 255
OPAQUE = 0.55


def masks(subject: Subject) -> pd.DataFrame:
    """Return three rows of tiles: the slice, its true mask, the drawn one with the volume's Dice.

    Raises:
        PictureError: the trial that shows the encoder drew no masks.

    """
    file = subject.judged and subject.judged / SLICES
    if file is None or not file.exists():
        raise PictureError("no trial of this encoder draws masks: protocol=segmentation does")
    with np.load(file, allow_pickle=False) as stored:
        slices = dict(stored)
    image = slices["image"][..., None] / 255 * np.ones(3)
    drawn = {
        "image": image,
        "true": overlaid(image, slices["true"]),
        "drawn": overlaid(image, slices["predicted"]),
    }
    return framed(
        Tile(
            row=row,
            column=column,
            image=tile,
            row_label=label,
            column_label=SHOWN[column],
            sample_id=str(slices["sample_id"][column]),
            value=float(slices["dice"][column]) if label == "drawn" else float("nan"),
            by_weights=False,  # two encoders may draw the same, or nothing
        )
        for row, (label, tiles) in enumerate(drawn.items())
        for column, tile in enumerate(tiles)
    )


def overlaid(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return images (B, S, S, 3) in 0..1 with labels (B, S, S) in colour over them, 0 without."""
    colour = COLOURS[(labels.astype(int) - 1) % len(COLOURS)]
    shown = labels[..., None] > 0
    mixed: np.ndarray = np.where(shown, (1 - OPAQUE) * image + OPAQUE * colour, image)
    return mixed
