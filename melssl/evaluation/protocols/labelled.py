"""Labelled images of a budget as training batches: augmented, balanced if asked for, mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from melssl.data.images import Images
from melssl.data.views import ViewRecipe, apply_view
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.training.devices import Rank

Sampling = Literal["natural", "balanced"]


@dataclass(frozen=True)
class LabelledBatch:
    """Views (B, C, S, S) or (B, C, D, S, S) and their classes (B,).

    Where views are mixed, ``share`` of each shows its ``target``, and the rest its ``other`` (B,).
    """

    images: Tensor
    target: Tensor
    other: Tensor | None = None
    share: float = 1.0


@dataclass(frozen=True)
class LabelledFeed:
    """Augmented images of the budget, with their labels.

    ``balanced`` batches hold every class of the budget equally often, drawn with replacement in
    the place of the images that the epoch offers. ``mixup_alpha`` above 0 mixes every batch with
    a permutation of itself, by a share drawn from Beta(alpha, alpha) (Zhang et al. 2018).
    """

    images: Images
    rows: np.ndarray
    target: np.ndarray
    recipe: ViewRecipe
    frame: Frame
    sampling: Sampling = "natural"
    mixup_alpha: float = 0.0

    @property
    def n_samples(self) -> int:
        """Images of the budget."""
        return len(self.rows)

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> LabelledBatch:
        """Return this rank's share, augmented on its device."""
        if self.sampling == "balanced":
            places = self._balanced(len(places), draw.child("sampling"))
        share = rank.share(len(places))
        params = self.recipe.sample(
            len(places), self.images.frame, draw.child("view").torch(), size=self.frame
        )
        mine = places[share]
        pixels = self.images.batch(self.rows[mine]).to(rank.device)
        target = torch.from_numpy(self.target[mine]).to(rank.device)
        plain = LabelledBatch(apply_view(pixels, params[share]), target)
        return self._mixed(plain, draw.child("mixup", rank.index)) if self.mixup_alpha else plain

    def _balanced(self, n: int, draw: Seed) -> np.ndarray:
        """Return ``n`` places; the counts of any two classes differ by one at most."""
        rng = draw.numpy()
        wanted = np.resize(rng.permutation(np.unique(self.target)), n)
        places = np.empty(n, dtype=np.int64)
        for label in np.unique(wanted):
            mine = wanted == label
            places[mine] = rng.choice(np.flatnonzero(self.target == label), int(mine.sum()))
        return places

    def _mixed(self, batch: LabelledBatch, draw: Seed) -> LabelledBatch:
        rng = draw.numpy()
        share = float(rng.beta(self.mixup_alpha, self.mixup_alpha))
        partner = torch.from_numpy(rng.permutation(len(batch.target))).to(batch.target.device)
        images = torch.lerp(batch.images[partner], batch.images, share)
        return LabelledBatch(images, batch.target, batch.target[partner], share)
