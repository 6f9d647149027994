"""PoolFeed: batches of views of the pool, without labels unless a method uses them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from melssl.data.images import Images
from melssl.data.views import ViewRecipe, apply_view
from melssl.frame import Frame
from melssl.methods.base import Batch
from melssl.seeding import Seed
from melssl.training.devices import Rank

UNCHANGED = ViewRecipe(mean=(0, 0, 0), std=(1, 1, 1))  # pixels in 0..1


@dataclass(frozen=True)
class PoolFeed:
    """Views of the pool: ``rows`` (N,) of the store, ``patients`` (N,) one integer per patient.

    ``target`` (N,) is given to methods that use labels, with the labelled rows as the pool;
    ``metadata`` (N, F) to those that read it. With ``positives="patient"`` every second view shows
    another image of the same patient, drawn anew for each batch (Azizi et al. 2021, section 3.2);
    of a patient with one image it shows that one. Views are of ``frame`` where a recipe leaves
    their size open.
    """

    images: Images
    rows: np.ndarray
    patients: np.ndarray
    recipes: tuple[ViewRecipe, ...]
    frame: Frame
    target: np.ndarray | None = None
    metadata: np.ndarray | None = None
    positives: Literal["image", "patient"] = "image"

    @property
    def n_samples(self) -> int:
        """Samples of the pool."""
        return len(self.rows)

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> Batch:
        """Draw views for the global batch and apply this rank's share on its device."""
        share = rank.share(len(places))
        mine = places[share]
        shown = [self._pixels(mine, rank)]
        if self.positives == "patient":
            shown.append(self._pixels(self.partners(places, draw.child("partner"))[share], rank))
        views = []
        for index, recipe in enumerate(self.recipes):
            rng = draw.child("view", index).torch()
            params = recipe.sample(len(places), self.images.frame, rng, size=self.frame)
            views.append(apply_view(shown[index % len(shown)], params[share]))
        return Batch(
            views=tuple(views),
            place=torch.from_numpy(mine),
            patient=torch.from_numpy(self.patients[mine]),
            rng=draw.child("method", 0).torch(),
            n_whole=len(places),
            first=share.start,
            target=self._of(self.target, mine, rank),
            metadata=self._of(self.metadata, mine, rank),
        )

    def partners(self, places: np.ndarray, draw: Seed) -> np.ndarray:
        """Return for each sample another of its patient, or itself where there is none, (B,)."""
        order, first, count = self._by_patient
        patient = self.patients[places]
        others = count[patient] - 1
        step = 1 + (draw.numpy().random(len(places)) * others).astype(np.int64)
        own = self._rank_in_patient[places]
        chosen: np.ndarray = order[
            first[patient] + (own + np.minimum(step, others)) % count[patient]
        ]
        return chosen

    def sample(self, n: int, seed: Seed, recipe: ViewRecipe = UNCHANGED) -> Tensor:
        """Return at most ``n`` images of the pool, by default as they are but for their size."""
        chosen = np.sort(seed.numpy().permutation(self.n_samples)[:n])
        return self.shown(chosen, seed, recipe)

    def shown(self, places: np.ndarray, seed: Seed, recipe: ViewRecipe = UNCHANGED) -> Tensor:
        """Return the images of samples of the pool, by default as they are but for their size."""
        stored = self.images.frame
        params = recipe.sample(len(places), stored, seed.torch(), size=self.frame)
        return apply_view(self.images.batch(self.rows[places]), params)

    def _pixels(self, places: np.ndarray, rank: Rank) -> Tensor:
        return self.images.batch(self.rows[places]).to(rank.device)

    @staticmethod
    def _of(values: np.ndarray | None, places: np.ndarray, rank: Rank) -> Tensor | None:
        return None if values is None else torch.from_numpy(values[places]).to(rank.device)

    @cached_property
    def _by_patient(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return places sorted by patient, and where each patient's begin and how many they are."""
        order = np.argsort(self.patients, kind="stable")
        count = np.bincount(self.patients)
        return order, np.cumsum(count) - count, count

    @cached_property
    def _rank_in_patient(self) -> np.ndarray:
        order, first, _ = self._by_patient
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - first[self.patients[order]]
        return rank
