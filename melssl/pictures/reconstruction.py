"""What a method paints: the image as it was shown, what it made of that, and the image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from melssl.data.views import ViewRecipe
from melssl.errors import PictureError
from melssl.methods.base import Batch
from melssl.pictures.subject import SEED, Subject, seen
from melssl.pictures.tiles import Tile, framed


@torch.no_grad()
def reconstruction(subject: Subject) -> pd.DataFrame:
    """Return three rows of tiles: shown, painted, truth.

    Raises:
        PictureError: the method paints nothing.

    """
    spec, rows = subject.spec, subject.shown()
    recipes = spec.method_class.recipes(spec.method, spec.views)
    if not recipes:
        raise PictureError(f"{spec.method.name} is not trained, and paints nothing")
    plain = ViewRecipe(mean=recipes[0].mean, std=recipes[0].std)
    made = subject.method.reconstruct(
        Batch(
            views=(subject.views(rows, plain),) * len(recipes),
            place=torch.arange(len(rows)),
            patient=torch.arange(len(rows)),
            rng=SEED.child("reconstruction").torch(),
        )
    )
    if made is None:
        raise PictureError(f"{spec.method.name} paints nothing")
    outcomes, names = subject.outcomes(rows), subject.names(rows)
    parts = {"image": made.truth, "shown": made.shown, "painted": made.painted}
    return framed(
        Tile(
            row=row,
            column=column,
            image=image,
            row_label=label,
            column_label=outcomes[column],
            sample_id=names[column],
            by_weights=label == "painted",
        )
        for row, (label, views) in enumerate(parts.items())
        for column, image in enumerate(np.asarray(seen(views, plain)))
    )
