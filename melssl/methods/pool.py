"""PoolFeed: batches of views of the pool, without labels unless a method uses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from melssl.data.images import Images
from melssl.data.views import ViewRecipe, apply_view
from melssl.methods.base import Batch
from melssl.seeding import Seed
from melssl.training.devices import Rank


@dataclass(frozen=True)
class PoolFeed:
    """Views of the pool: ``rows`` (N,) of the store, ``patients`` (N,) one integer per patient.

    ``target`` (N,) is given to methods that use labels, with the labelled rows as the pool.
    """

    images: Images
    rows: np.ndarray
    patients: np.ndarray
    recipes: tuple[ViewRecipe, ...]
    image_px: int
    target: np.ndarray | None = None

    @property
    def n_samples(self) -> int:
        """Samples of the pool."""
        return len(self.rows)

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> Batch:
        """Draw views for the global batch and apply this rank's share on its device."""
        share = rank.share(len(places))
        mine = places[share]
        pixels = self.images.batch(self.rows[mine]).to(rank.device)
        views = []
        for index, recipe in enumerate(self.recipes):
            rng = draw.child("view", index).torch()
            params = recipe.sample(len(places), self.images.size_px, rng, size_px=self.image_px)
            views.append(apply_view(pixels, params[share]))
        target = None if self.target is None else torch.from_numpy(self.target[mine])
        return Batch(
            views=tuple(views),
            patient=torch.from_numpy(self.patients[mine]),
            rng=draw.child("method", rank.index).torch(),
            target=None if target is None else target.to(rank.device),
        )
