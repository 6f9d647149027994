"""Medium: what the samples of a cohort are, and how a file of it becomes an array."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from melssl.data.decode import Fit
from melssl.frame import Frame, Kind
from melssl.settings import Settings


class Medium(Settings):
    """Settings of decoding; a subclass per medium. They are in the digest of a cohort, if not 2-D.

    ``channels`` is 1 for grey and 3 for colour. With ``per_patient`` the samples of a patient are
    takes of one finding, so that patients are scored, too.
    """

    kind: ClassVar[Kind]
    per_patient: ClassVar[bool] = False
    channels: int

    @abstractmethod
    def depth(self, side_px: int) -> int | None:
        """Return slices or frames of a sample of that side; None for images."""

    @abstractmethod
    def decode(self, path: Path, side_px: int, fit: Fit) -> np.ndarray:
        """Return a file as uint8 of shape ``self.frame(side_px).stored``.

        Raises:
            any exception: the file is damaged or not of this medium; its text says what is wrong.

        """

    @property
    @abstractmethod
    def decoder(self) -> str:
        """The libraries that decode and their versions, for the record."""

    def frame(self, side_px: int) -> Frame:
        """Return the shape of a stored sample of that side."""
        return Frame(side_px, self.depth(side_px), self.channels)
