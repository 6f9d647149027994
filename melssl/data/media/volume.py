"""VolumeMedium: how a NIfTI file, and the mask of its structures, becomes a box of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, field_validator

from melssl.data.decode import Fit
from melssl.data.media.base import Medium
from melssl.data.media.nifti import (
    Shape,
    Spacing,
    Volume,
    bounds,
    centred,
    check_reader,
    check_same_grid,
    read_volume,
    resized,
    version,
)
from melssl.frame import Kind

DIRECTIONS = ({"L", "R"}, {"A", "P"}, {"S", "I"})
Positive = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask:
    """Which structure each stored voxel shows: uint8 (D, S, S), 0 is background.

    ``spacing_mm`` is the distance of neighbours in the store, for distances of surfaces.
    """

    labels: np.ndarray
    spacing_mm: Spacing


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How voxels of a file come to lie in the store.

    ``box`` is cut out of the file, becomes ``resampled`` voxels, and of those ``stored`` are kept,
    the middle or, with fit ``squash``, all, resized.
    """

    box: tuple[slice, ...]
    resampled: Shape
    stored: Shape
    fit: Fit

    def resample(self, values: np.ndarray, *, labels: bool) -> np.ndarray:
        """Return what the box holds of a file's (D, H, W, C), in new voxels."""
        return resized(values[self.box], self.resampled, labels=labels)

    def place(self, values: np.ndarray, *, labels: bool) -> np.ndarray:
        """Return what the store keeps of resampled voxels."""
        if self.fit == "squash":
            return resized(values, self.stored, labels=labels)
        return centred(values, self.stored)

    def spacing_mm(self, of_file: Spacing) -> Spacing:
        """Return the distance of stored voxels where those of the file lie ``of_file`` apart."""
        last = self.stored if self.fit == "squash" else self.resampled
        cut = [part.stop - part.start for part in self.box]
        depth, height, width = (mm * n / m for mm, n, m in zip(of_file, cut, last, strict=True))
        return depth, height, width


class VolumeMedium(Medium):
    """Turned, resampled, cropped and brought to 0..255, in this order.

    Slices, rows and columns run towards ``axes``: by default from the feet up, from front to back
    and from the patient's right to the left, as radiologists look at them. ``window`` is in the
    file's own units (Hounsfield units of a CT); without one each volume has its own, between
    ``percentiles`` of its voxels, which suits MR. With fit ``crop`` the store keeps the middle,
    with zeros where a volume ends; with ``squash`` it keeps all of it.
    """

    kind: ClassVar[Kind] = "volume"
    channels: int = Field(1, ge=1, le=8, description="of a file whose fourth dimension they are")
    axes: str = Field("SPL", description="where slices, rows and columns run to")
    spacing_mm: tuple[Positive, Positive, Positive] | None = Field(
        None, description="between slices, rows, columns; None: each file's own"
    )
    window: tuple[float, float] | None = Field(None, description="what becomes 0 and 255")
    percentiles: tuple[Percent, Percent] = Field((0.5, 99.5), description="where window is None")
    foreground: bool = Field(
        False, description="crop to the box of what lies above the window's lower end"
    )
    slices: int | None = Field(None, ge=8, description="in the store; None: as many as rows")

    @field_validator("axes")
    @classmethod
    def _three_directions(cls, axes: str) -> str:
        if len(axes) != 3 or any(len(pair & set(axes)) != 1 for pair in DIRECTIONS):
            raise ValueError("expected one of L and R, one of A and P, one of S and I, as SPL")
        return axes

    @field_validator("window", "percentiles")
    @classmethod
    def _rising(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is not None and ends[0] >= ends[1]:
            raise ValueError(f"expected (low, high) with low < high, got {ends}")
        return ends

    @property
    def decoder(self) -> str:
        """What reads the files, for the record."""
        return version()

    def check_reader(self) -> None:
        """Refuse to go on where such files cannot be read."""
        check_reader()

    def depth(self, side_px: int) -> int:
        """Return the number of stored slices."""
        return self.slices or side_px

    def decode(self, path: Path, side_px: int, fit: Fit) -> np.ndarray:
        """Return a file as uint8 of shape (depth, side_px, side_px, channels).

        Raises:
            ValueError: the file is damaged, or is not such a volume.

        """
        volume = self._read(path)
        bright = self._brightness(volume)
        layout = self._layout(volume, bright, side_px, fit)
        stored = layout.place(layout.resample(bright, labels=False), labels=False)
        return np.asarray(255 * stored + 0.5, dtype=np.uint8)

    def decode_mask(
        self, image: Path, mask: Path, n_structures: int, side_px: int, fit: Fit
    ) -> Mask:
        """Return an image's mask, laid voxel by voxel as ``decode`` lays the image.

        Raises:
            ValueError: a file is damaged, the two do not lie on one another, a label is not among
                0..``n_structures``, or the store would cut a structure off.

        """
        volume, drawn = self._read(image), read_volume(mask, self.axes)
        check_same_grid(volume, drawn)
        labels = _checked_labels(drawn.values, n_structures)
        bright = self._brightness(volume) if self.foreground else volume.values
        layout = self._layout(volume, bright, side_px, fit)
        whole = layout.resample(labels, labels=True)
        stored = layout.place(whole, labels=True)
        if np.count_nonzero(labels[layout.box]) < np.count_nonzero(labels):
            raise ValueError("structures lie outside of the foreground; set foreground=false")
        if fit == "crop" and np.count_nonzero(stored) < np.count_nonzero(whole):
            needed = _sides_needed(whole[..., 0])
            raise ValueError(
                f"structures need the middle {needed} voxels, and {stored.shape[:3]} are stored;"
                f" store_px={max(needed)} keeps them whole, and so does fit=squash"
            )
        return Mask(labels=stored[..., 0], spacing_mm=layout.spacing_mm(volume.spacing_mm))

    def _read(self, path: Path) -> Volume:
        volume = read_volume(path, self.axes)
        n_channels = volume.values.shape[3]
        if n_channels != self.channels:
            raise ValueError(
                f"{path.name}: expected {self.channels} channel(s), got {n_channels}; set channels"
                " of the cohort's volume"
            )
        return volume

    def _brightness(self, volume: Volume) -> np.ndarray:
        """Return voxels in 0..1, each channel for itself where no window is given."""
        values = volume.values.astype(np.float32)
        if self.window is not None:
            low, high = (np.float32(end) for end in self.window)
        else:
            low, high = np.percentile(values, self.percentiles, axis=(0, 1, 2)).astype(np.float32)
            least, most = values.min(axis=(0, 1, 2)), values.max(axis=(0, 1, 2))
            if (least == most).any():
                raise ValueError(f"expected a picture, but every voxel is {least.max():g}")
            flat = low == high  # so little stands out that both percentiles are background
            low, high = np.where(flat, least, low), np.where(flat, most, high)
        return np.asarray(np.clip((values - low) / (high - low), 0, 1))

    def _layout(self, volume: Volume, bright: np.ndarray, side_px: int, fit: Fit) -> Layout:
        shown = bright.max(axis=3) > 0 if self.foreground else None
        box = tuple(map(slice, (0, 0, 0), volume.shape)) if shown is None else bounds(shown)
        spacing = self.spacing_mm or volume.spacing_mm
        cut = [part.stop - part.start for part in box]
        depth, height, width = (
            max(round(n * old / new), 1)
            for n, old, new in zip(cut, volume.spacing_mm, spacing, strict=True)
        )
        return Layout(
            box=box,
            resampled=(depth, height, width),
            stored=(self.depth(side_px), side_px, side_px),
            fit=fit,
        )


def _checked_labels(values: np.ndarray, n_structures: int) -> np.ndarray:
    found = np.unique(values)
    unknown = [f"{label:g}" for label in found if label not in range(n_structures + 1)]
    if unknown or values.shape[3] != 1:
        what = f"labels {', '.join(unknown[:8])}" if unknown else f"{values.shape[3]} channels"
        raise ValueError(
            f"the mask has {what}; expected one channel of labels 0..{n_structures}, one for each"
            " of the cohort's structures behind the background"
        )
    return values.astype(np.uint8)


def _sides_needed(labels: np.ndarray) -> Shape:
    """Return the sides of the smallest centred box that holds every structure of (D, H, W)."""
    depth, height, width = (
        next(
            side
            for side in range(1, length + 1)
            if (length - side) // 2 <= part.start and part.stop <= (length - side) // 2 + side
        )
        for part, length in zip(bounds(labels > 0), labels.shape, strict=True)
    )
    return depth, height, width
