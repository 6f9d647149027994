"""Frame: the shape of a sample, as it is stored and as a backbone sees it; and the media."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

RGB = 3
Kind = Literal["image", "volume", "clip"]
IMAGES: frozenset[Kind] = frozenset({"image"})
VOLUMES: frozenset[Kind] = frozenset({"volume"})
CLIPS: frozenset[Kind] = frozenset({"clip"})
ALL_MEDIA: frozenset[Kind] = frozenset({"image", "volume", "clip"})


@dataclass(frozen=True)
class Frame:
    """C channels of S x S pixels: an image, or with a ``depth`` as many slices or frames of one.

    A tensor of samples is (B, C, S, S) for images, (B, C, D, S, S) for volumes and clips.
    """

    side_px: int
    depth: int | None = None
    channels: int = RGB

    @property
    def sides(self) -> tuple[int, ...]:
        """The places along each dimension: (S, S) or (D, S, S)."""
        plane = (self.side_px, self.side_px)
        return plane if self.depth is None else (self.depth, *plane)

    @property
    def n_dims(self) -> int:
        """Dimensions of space and time: 2 or 3."""
        return len(self.sides)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample as tensors have it: (C, S, S) or (C, D, S, S)."""
        return (self.channels, *self.sides)

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of one sample as files have it: (S, S, C) or (D, S, S, C)."""
        return (*self.sides, self.channels)

    @property
    def n_values(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return " x ".join(map(str, self.sides))

    def blank(self, n: int = 1) -> Tensor:
        """Return ``n`` samples of zeros."""
        import torch  # a store is built without it

        return torch.zeros(n, *self.shape)


def frame_of(size: Frame | int) -> Frame:
    """Return the frame; a whole number is the side of a square RGB image, px."""
    return size if isinstance(size, Frame) else Frame(size)
