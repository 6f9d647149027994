"""Images: what training and encoding ask of a store of pixels."""

from __future__ import annotations

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
