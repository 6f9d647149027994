"""Set head: a small transformer over the embeddings of one patient's images, and its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.trainable import StepResult, Trainable

NO_LOSS = -1  # the target of an image whose label is not in the budget


@dataclass(frozen=True, kw_only=True)
class SetBatch:
    """S sets of at most L images of one patient each.

    ``tokens`` (S, L, D) embeddings; ``metadata`` (S, L, F), F may be 0; ``absent`` (S, L) bool
    where a set has fewer than L; ``target`` (S, L), below 0 where no loss is wanted.
    """

    tokens: Tensor
    metadata: Tensor
    absent: Tensor
    target: Tensor


def groups(rows: np.ndarray, set_size: int) -> list[np.ndarray]:
    """Divide the rows of one patient into as few sets of at most ``set_size``, of like size.

    Neighbours go to different sets, so that each set sees the whole series.
    """
    n_sets = -(-len(rows) // set_size)
    return [rows[first::n_sets] for first in range(n_sets)]


@dataclass(frozen=True, kw_only=True)
class Album:
    """Embeddings (N, D), metadata (N, F) and targets (N,) of all images, to be read by rows."""

    tokens: np.ndarray
    metadata: np.ndarray
    target: np.ndarray

    def batch(self, sets: Sequence[np.ndarray], device: torch.device) -> SetBatch:
        """Return sets of rows side by side, filled up to the longest."""
        length = max(map(len, sets))
        rows = np.full((len(sets), length), NO_LOSS)
        for place, members in enumerate(sets):
            rows[place, : len(members)] = members
        absent = rows < 0
        target = np.where(absent, NO_LOSS, self.target[rows])
        return SetBatch(
            tokens=torch.from_numpy(self.tokens[rows]).to(device),
            metadata=torch.from_numpy(self.metadata[rows]).to(device),
            absent=torch.from_numpy(absent).to(device),
            target=torch.from_numpy(target).to(device),
        )


@dataclass(frozen=True, kw_only=True)
class SetFeed:
    """Patients of the budget, each with ``members``, the rows of all of its images.

    Whenever a patient comes, its images are dealt to sets anew; none is left out.
    """

    album: Album
    members: tuple[np.ndarray, ...]
    set_size: int

    @property
    def n_samples(self) -> int:
        """Patients of the budget."""
        return len(self.members)

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> SetBatch:
        """Return this rank's share of the patients, in sets."""
        sets = []
        for place in places[rank.share(len(places))]:
            rng = draw.child("deal", int(place)).numpy()
            sets += groups(rng.permutation(self.members[place]), self.set_size)
        return self.album.batch(sets, rank.device)


class SetClassifier(Trainable[SetBatch]):
    """Scores every image of a set in the light of the others.

    An image is the sum of its projected embedding and metadata; there are no positions, so another
    order of the images gives the same scores in that order. The loss is cross-entropy over the
    images that have a target.
    """

    def __init__(
        self, widths: tuple[int, int], n_classes: int, *, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        n_embedding, n_metadata = widths
        self.embed = nn.Linear(n_embedding, width)
        self.embed_metadata = nn.Linear(n_metadata, width, bias=False) if n_metadata else None
        self.blocks = nn.ModuleList(_block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)

    def logits(self, batch: SetBatch) -> Tensor:
        """Return (S, L, K); those of absent images mean nothing."""
        x = self.embed(batch.tokens)
        if self.embed_metadata is not None:
            x = x + self.embed_metadata(batch.metadata)
        for block in self.blocks:
            x = block(x, src_key_padding_mask=batch.absent)
        scores: Tensor = self.head(self.norm(x))
        return scores

    def step(self, batch: SetBatch) -> StepResult:
        """Return cross-entropy over the images with a target."""
        known = batch.target >= 0
        loss = F.cross_entropy(self.logits(batch)[known].float(), batch.target[known])
        return StepResult(loss=loss)


def _block(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width,
        heads,
        dim_feedforward=2 * width,
        dropout=0.1,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
