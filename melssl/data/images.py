"""Images: what training and encoding ask of a store of pixels, of whatever medium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from melssl.errors import CohortError
from melssl.frame import Frame


class Images(Protocol):
    """Samples of one shape, by row."""

    @property
    def frame(self) -> Frame:
        """The shape of a sample."""
        ...

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, *frame.shape)."""
        ...


@dataclass(frozen=True)
class NoImages:
    """The images of a ``cohort`` that is a table only: whoever asks for one is refused."""

    cohort: str

    @property
    def frame(self) -> Frame:
        """Refuse."""
        raise CohortError(f"{self.cohort} is a table without images; only metadata can be judged")

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Refuse."""
        raise CohortError(f"{self.cohort} is a table without images, so rows {rows} show nothing")


@dataclass(frozen=True)
class SomeImages:
    """Those ``images`` at ``rows`` (N,), numbered anew from 0."""

    images: Images
    rows: np.ndarray

    @property
    def frame(self) -> Frame:
        """The shape of a sample."""
        return self.images.frame

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, *frame.shape)."""
        return self.images.batch(self.rows[rows])


@dataclass(frozen=True)
class JoinedImages:
    """The ``n_first`` images of ``first`` and behind them those of ``second``, of one shape."""

    first: Images
    n_first: int
    second: Images

    @property
    def frame(self) -> Frame:
        """The shape of a sample."""
        return self.first.frame

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, *frame.shape)."""
        late = rows >= self.n_first
        if not late.any():
            return self.first.batch(rows)
        shape = (len(rows), *self.frame.stored)
        pixels = torch.empty(shape, dtype=torch.uint8).movedim(-1, 1)
        pixels[torch.from_numpy(~late)] = self.first.batch(rows[~late])
        pixels[torch.from_numpy(late)] = self.second.batch(rows[late] - self.n_first)
        return pixels


@dataclass(frozen=True)
class TurnedImages:
    """The ``n`` images of ``images`` in several orientations, all of one before those of the next.

    Row ``v n + i`` is image ``i`` in ``orientations[v]``: turned by ``o % 4`` quarters against the
    clock and, from 4 on, mirrored left to right before that. 0..7 are all that a square has; the
    slices of a volume are turned alike.
    """

    images: Images
    n: int
    orientations: Sequence[int]

    @property
    def frame(self) -> Frame:
        """The shape of a sample."""
        return self.images.frame

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, *frame.shape)."""
        pixels = self.images.batch(rows % self.n).clone()
        for view in np.unique(rows // self.n):
            own = torch.from_numpy(rows // self.n == view)
            quarters, mirrored = self.orientations[view] % 4, self.orientations[view] >= 4
            seen = pixels[own].flip(-1) if mirrored else pixels[own]
            pixels[own] = torch.rot90(seen, quarters, (-2, -1))
        return pixels
