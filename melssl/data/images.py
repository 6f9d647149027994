"""Images: what training and encoding ask of a store of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from melssl.errors import CohortError


class Images(Protocol):
    """Square RGB images of side ``size_px``, by row."""

    @property
    def size_px(self) -> int:
        """Side in pixels."""
        ...

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, 3, S, S)."""
        ...


@dataclass(frozen=True)
class NoImages:
    """The images of a ``cohort`` that is a table only: whoever asks for one is refused."""

    cohort: str

    @property
    def size_px(self) -> int:
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
    def size_px(self) -> int:
        """Side in pixels."""
        return self.images.size_px

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, 3, S, S)."""
        return self.images.batch(self.rows[rows])


@dataclass(frozen=True)
class JoinedImages:
    """The ``n_first`` images of ``first`` and behind them those of ``second``, of one side."""

    first: Images
    n_first: int
    second: Images

    @property
    def size_px(self) -> int:
        """Side in pixels."""
        return self.first.size_px

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, 3, S, S)."""
        late = rows >= self.n_first
        if not late.any():
            return self.first.batch(rows)
        shape = (len(rows), 3, self.size_px, self.size_px)
        pixels = torch.empty(shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        pixels[torch.from_numpy(~late)] = self.first.batch(rows[~late])
        pixels[torch.from_numpy(late)] = self.second.batch(rows[late] - self.n_first)
        return pixels
