"""ViewParams: what was drawn for the views of a batch."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from torch import Tensor

Channels = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewParams:
    """What was drawn for n views: one row per view, on the CPU; ``params[rows]`` cuts rows out.

    Boxes are (n, 4) int64 ``top, left, height, width``: ``crop`` in the image, ``erase`` in the
    finished view (height 0: none). Flips come before ``quarter_turns`` (0..3, counter-clockwise).
    Factors of 1, a sigma of 0 and a hue of 0 change nothing. Volumes and clips also have a ``span``
    (n, 2) int64 ``start, length`` along their ``source_depth``, and ``depth_flip`` (n,).
    """

    source_px: tuple[int, int]
    size_px: int
    crop: Tensor
    horizontal_flip: Tensor
    vertical_flip: Tensor
    quarter_turns: Tensor
    blur_sigma_px: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    solarise: Tensor
    solarise_threshold: float
    mean: Channels
    std: Channels
    erase: Tensor
    source_depth: int | None = None
    size_depth: int | None = None
    span: Tensor | None = None
    depth_flip: Tensor | None = None

    @property
    def source_sides(self) -> tuple[int, ...]:
        """Height and width of the sources, behind their depth if they have one."""
        return (() if self.source_depth is None else (self.source_depth,)) + self.source_px

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of the views, behind their depth if they have one."""
        plane = (self.size_px, self.size_px)
        return plane if self.size_depth is None else (self.size_depth, *plane)

    def __len__(self) -> int:
        return len(self.crop)

    def __getitem__(self, rows: slice | Tensor) -> ViewParams:
        cut = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                object.__setattr__(cut, name, value[rows])
        return cut
