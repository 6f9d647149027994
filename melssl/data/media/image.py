"""Images: files that Pillow reads, as squares of RGB."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import PIL
from PIL import features

from melssl.data.decode import Fit, decode
from melssl.data.media.base import Medium
from melssl.frame import Kind


class ImageMedium(Medium):
    """An image file is one sample; what is grey gets three equal channels."""

    kind: ClassVar[Kind] = "image"
    channels: Literal[3] = 3

    def depth(self, side_px: int) -> None:
        """Return None: an image has no depth."""

    def decode(self, path: Path, side_px: int, fit: Fit) -> np.ndarray:
        """Return uint8 RGB of shape (side_px, side_px, 3); see ``melssl.data.decode``."""
        return decode(path, side_px, fit)

    @property
    def decoder(self) -> str:
        """Pillow and its JPEG library."""
        return f"Pillow {PIL.__version__}, libjpeg {features.version('jpg')}"
