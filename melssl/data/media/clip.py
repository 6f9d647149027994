"""ClipMedium: how a file of moving pictures becomes a fixed number of square frames."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from melssl.data.decode import Fit
from melssl.data.media.base import Medium
from melssl.data.media.clip_files import frames_of, version
from melssl.data.media.clip_window import Short, Window, spread, start_of, strided
from melssl.frame import Kind


class ClipMedium(Medium):
    """Frames of a clip, evenly spread over it or ``stride`` apart in a part of it.

    A part is where a longer clip begins, its middle, or where most moves in it. Times between
    frames are not looked at: a clip of another rate counts by its frames.
    """

    kind: ClassVar[Kind] = "clip"
    per_patient: ClassVar[bool] = True
    channels: Literal[1, 3] = Field(1, description="1: grey, as ultrasound is; 3: colour")
    n_frames: int = Field(16, ge=2, le=1024, description="frames that are kept of a clip")
    stride: int | None = Field(
        None, ge=1, description="source frames from one to the next; None: spread over the clip"
    )
    window: Window = Field("middle", description="the part that is kept, where stride is given")
    short: Short = Field(
        "bounce", description="a clip that ends before: to and fro, its last frame held, refused"
    )

    @property
    def decoder(self) -> str:
        """What reads the files, for the record."""
        return version()

    def depth(self, side_px: int) -> int:
        """Return the number of frames."""
        return self.n_frames

    def decode(self, path: Path, side_px: int, fit: Fit) -> np.ndarray:
        """Return a clip as uint8 (n_frames, side_px, side_px, channels), antialiased.

        ``"crop"`` keeps the centred square of every frame, ``"squash"`` the whole frame.

        Raises:
            ValueError, OSError and others of the readers': the file is damaged, a still picture,
                or too short where that is to be refused.

        """
        frames = [self._square(frame, side_px, fit) for frame in frames_of(path)]
        if len(frames) < 2:
            raise ValueError(f"expected a moving picture, got {len(frames)} frame(s)")
        clip = np.stack(frames)
        kept: np.ndarray = clip[self._kept(clip)]
        return kept

    def _kept(self, clip: np.ndarray) -> np.ndarray:
        if self.stride is None:
            return spread(len(clip), self.n_frames)
        span = self.stride * (self.n_frames - 1) + 1
        start = start_of(self.window, clip, span)
        return strided(start, len(clip), self.n_frames, self.stride, self.short)

    def _square(self, frame: Image.Image, side_px: int, fit: Fit) -> np.ndarray:
        width, height = frame.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side) if fit == "crop" else None
        pixels = frame.convert("L" if self.channels == 1 else "RGB")
        square = pixels.resize((side_px, side_px), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
        return np.asarray(square).reshape(side_px, side_px, self.channels)
