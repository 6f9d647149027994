"""Crops of labelled volumes as training batches: balanced by foreground, turned, shifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, apply_view
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.settings import Settings
from melssl.training.devices import Rank


class CropRecipe(Settings):
    """How a crop as large as the encoder's view is taken from a volume, and altered.

    Defaults are those of MONAI's BTCV tutorial, which fine-tunes a UNETR.
    """

    foreground: float = Field(
        0.5, ge=0, le=1, description="share of crops centred on a structure, others on background"
    )
    flip: float = Field(0.1, ge=0, le=1, description="probability of a flip, along each axis")
    turn: float = Field(0.1, ge=0, le=1, description="probability of quarter turns within slices")
    shift: float = Field(0.5, ge=0, le=1, description="probability of a change of brightness")
    shift_by: float = Field(0.1, ge=0, le=1, description="that is uniform in -+ this, 1 the range")

    def sample(self, masks: np.ndarray, sides: tuple[int, ...], rng: np.random.Generator) -> Crops:
        """Draw one crop of ``sides`` for each mask (B, *larger sides) of integers.

        A centre is one voxel of those wanted, all alike; where a mask has none of them, of the
        others. The crop lies as near to it as the volume's borders allow.
        """
        n, n_dims = len(masks), len(sides)
        inside = rng.random(n) < self.foreground
        draws = rng.random(n)
        room = np.array(masks.shape[1:]) - sides
        corners = np.stack(
            [
                np.clip(_centre(mask > 0, *pair) - np.array(sides) // 2, 0, room)
                for mask, *pair in zip(masks, inside, draws, strict=True)
            ]
        )
        return Crops(
            sides=sides,
            corner=corners,
            flip=rng.random((n, n_dims)) < self.flip,
            turns=rng.integers(1, 4, n) * (rng.random(n) < self.turn),
            shift=rng.uniform(-self.shift_by, self.shift_by, n) * (rng.random(n) < self.shift),
        )


@dataclass(frozen=True, kw_only=True)
class Crops:
    """What was drawn for B crops of ``sides``.

    ``corner`` (B, n_dims) in the volume, ``flip`` (B, n_dims) bool by axis, then ``turns`` (B,) in
    0..3 of the last two axes; ``shift`` (B,) is added to the image, whose range is 0..1.
    """

    sides: tuple[int, ...]
    corner: np.ndarray
    flip: np.ndarray
    turns: np.ndarray
    shift: np.ndarray

    def cut(self, volumes: Tensor) -> Tensor:
        """Return the crops (B, C, *sides) of volumes (B, C, *larger sides): no voxel is altered."""
        return torch.stack([self._one(volume, place) for place, volume in enumerate(volumes)])

    def image(self, volumes: Tensor) -> Tensor:
        """Return the crops of uint8 images as float32 in 0..1, shifted."""
        shift = torch.from_numpy(self.shift).float()
        return self.cut(volumes) / 255 + shift.view(-1, *(1 for _ in range(volumes.ndim - 1)))

    def _one(self, volume: Tensor, place: int) -> Tensor:
        corner = self.corner[place].tolist()
        box = [slice(at, at + side) for at, side in zip(corner, self.sides, strict=True)]
        axes = (np.flatnonzero(self.flip[place]) + 1).tolist()
        return torch.rot90(volume[:, *box].flip(axes), int(self.turns[place]), (-2, -1))


def _centre(inside: np.ndarray, wanted: bool, draw: float) -> np.ndarray:
    """Return the place of one voxel: of the ``inside`` ones, or of those outside; ``draw`` 0..1."""
    chosen = np.flatnonzero(inside if wanted else ~inside)
    if not len(chosen):
        chosen = np.arange(inside.size)
    at = chosen[int(draw * len(chosen))]
    return np.array(np.unravel_index(at, inside.shape))


def normalised(images: Tensor) -> Tensor:
    """Return images (B, C, *sides), float in 0..1, as encoders see them: nothing else is done."""
    n, channels, *deep, side, _ = images.shape
    frame = Frame(side, deep[0] if deep else None, channels)
    params = VIEW_PRESETS["none"].sample(n, frame, torch.Generator(), size=frame)
    return apply_view(images, params)


class Labels(Protocol):
    """What a feed asks of masks."""

    def batch(self, rows: np.ndarray) -> Tensor:
        """Return uint8 (B, 1, *sides): 0 is background."""
        ...


@dataclass(frozen=True)
class CropBatch:
    """Crops (B, C, *sides), normalised as the encoder sees images, and their labels (B, *sides)."""

    images: Tensor
    target: Tensor


@dataclass(frozen=True)
class CropFeed:
    """Crops of the budget's volumes; an epoch takes ``per_volume`` of each.

    ``masks`` shows the masks of the budget and no others.
    """

    images: Images
    masks: Labels
    rows: np.ndarray
    recipe: CropRecipe
    sides: tuple[int, ...]
    per_volume: int

    @property
    def n_samples(self) -> int:
        """Crops of an epoch."""
        return len(self.rows) * self.per_volume

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> CropBatch:
        """Return this rank's share, on its device."""
        mine = rank.share(len(places))
        rows = self.rows[places % len(self.rows)]
        masks = self.masks.batch(rows)
        crops = self.recipe.sample(masks[:, 0].numpy(), self.sides, draw.child("crop").numpy())
        images = normalised(crops.image(self.images.batch(rows)))[mine]
        target = crops.cut(masks)[mine, 0].long()
        return CropBatch(images.to(rank.device), target.to(rank.device))
