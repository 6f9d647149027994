"""Feature maps: what the stages or blocks of an encoder make of one image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from melssl.pictures.subject import Subject, middle
from melssl.pictures.tiles import Tile, framed, stretched

N_CHANNELS, MOST_STAGES = 8, 4


@torch.no_grad()
def feature_maps(subject: Subject) -> pd.DataFrame:
    """Return a row of tiles per stage: its eight channels that vary most over the image's places.

    Of more than four stages, four evenly spaced ones are shown. Each map goes from its least value
    to its greatest.
    """
    rows = subject.shown(1)
    maps = subject.backbone.features(subject.views(rows))
    chosen = spaced(len(maps), MOST_STAGES)
    name, image = subject.names(rows)[0], subject.pixels(rows)[0]
    tiles = [Tile(row=0, column=0, image=image, sample_id=name, by_weights=False)]
    for row, index in enumerate(chosen):
        grids = middle(maps[index])[0].float().numpy()
        order = np.argsort(-grids.var(axis=(1, 2)), kind="stable")[:N_CHANNELS]
        tiles += [
            Tile(
                row=row,
                column=column,
                image=stretched(grids[channel]),
                row_label=f"stage {index + 1}",
                sample_id=name,
            )
            for column, channel in enumerate(order, start=1)
        ]
    return framed(tiles)


def spaced(n: int, most: int) -> list[int]:
    """Return at most ``most`` of ``n`` places, evenly spaced, the first and last among them."""
    return sorted(set(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()))
