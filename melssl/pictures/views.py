"""What pretraining saw: the views of one image of the pool, exactly as they were drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from melssl.data.views import ViewRecipe
from melssl.errors import PictureError
from melssl.methods.pool import UNCHANGED
from melssl.pictures.subject import CPU, SEED, Subject, seen
from melssl.pictures.tiles import Tile, framed
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import epoch_order

N_EPOCHS = 7
ALIKE = 2  # views of one recipe, such as eight small crops, of which two say enough


def views(subject: Subject) -> pd.DataFrame:
    """Return a row of tiles per view; the first column is the image, the others its epochs.

    Raises:
        PictureError: the method was not trained on views.

    """
    spec = subject.spec
    if not spec.method_class.trains:
        raise PictureError(f"{spec.method.name} is not trained, and saw no view")
    recipes = spec.method_class.recipes(spec.method, spec.views)
    ranks = SEED.ranks([str(name) for name in subject.pool.sample_ids])
    place = int(ranks.argmin())
    drawn = list(_drawn(subject, place))
    feed = subject.pool.feed(spec, subject.prepared)
    whole = seen(feed.shown(np.array([place]), SEED), UNCHANGED)
    name = str(subject.pool.sample_ids[place])
    tiles = []
    for row, index in enumerate(_chosen(recipes)):
        label = f"view {index + 1}"
        if row == 0:
            tiles.append(_tile(row, 0, whole[0], label, "image", name))
        for column, (epoch, batch) in enumerate(drawn, start=1):
            image = seen(batch[index], recipes[index])[0]
            tiles.append(_tile(row, column, image, label, f"epoch {epoch + 1}", name))
    return framed(tiles)


def _drawn(subject: Subject, place: int) -> Iterator[tuple[int, Sequence[Tensor]]]:
    """Yield epoch and views of a sample of the pool, in the first epochs that passed it.

    Every draw is a function of seed and step, and one process of many gets what one would have
    drawn: so a process of its own for this sample gets its views.
    """
    spec, seed = subject.spec, Seed(subject.spec.seed).child("pretrain")
    feed = subject.pool.feed(spec, subject.prepared)
    plan = subject.pool.training.steps(feed.n_samples)
    for epoch in range(min(N_EPOCHS, plan.total // plan.per_epoch)):
        order = epoch_order(seed, epoch, feed.n_samples)
        step, index = divmod(int(np.flatnonzero(order == place)[0]), plan.batch_size)
        if step >= plan.per_epoch:  # the last samples of an epoch that fill no batch
            continue
        places = order[step * plan.batch_size : (step + 1) * plan.batch_size]
        draw = seed.child("step", epoch * plan.per_epoch + step)
        yield epoch, feed.batch(places, draw, Rank(index, len(places), CPU)).views


def _chosen(recipes: Sequence[ViewRecipe]) -> list[int]:
    """Return which views to show: two of each recipe."""
    count: Counter[str] = Counter()
    chosen = []
    for index, recipe in enumerate(recipes):
        said = recipe.model_dump_json()
        count[said] += 1
        chosen += [index] if count[said] <= ALIKE else []
    return chosen


def _tile(row: int, column: int, image: np.ndarray, label: str, above: str, name: str) -> Tile:
    return Tile(
        row=row,
        column=column,
        image=image,
        row_label=label,
        column_label=above,
        sample_id=name,
        by_weights=False,
    )
