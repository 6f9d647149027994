"""Images: what training and encoding ask of a store of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch


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
