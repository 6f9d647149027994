"""The filters of the first layer: what every place of an image is compared with first."""

from __future__ import annotations

import pandas as pd
from torch import nn

from melssl.errors import PictureError
from melssl.frame import RGB
from melssl.pictures.subject import Subject, middle
from melssl.pictures.tiles import Tile, framed, stretched

MOST, TO_A_ROW = 32, 16


def filters(subject: Subject) -> pd.DataFrame:
    """Return the largest filters (by norm, at most 32), colours in colour, grey ones in grey.

    Each goes from its least weight to its greatest.

    Raises:
        PictureError: the encoder does not begin with filters over the image.

    """
    layers = (m for m in subject.backbone.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    first = next((m for m in layers if m.in_channels == subject.spec.frame.channels), None)
    if first is None or first.in_channels not in (1, RGB):
        raise PictureError("the encoder does not begin with filters over the colours of an image")
    weight = middle(first.weight.detach().float())
    order = weight.flatten(1).norm(dim=1).argsort(descending=True)[:MOST].tolist()
    return framed(
        Tile(
            row=place // TO_A_ROW,
            column=place % TO_A_ROW,
            image=stretched(weight[index].movedim(0, 2).squeeze(2).numpy()),
        )
        for place, index in enumerate(order)
    )
