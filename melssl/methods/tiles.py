"""Tiles of a view: where they lie, how they are cut, levelled, and made to fit a backbone.

Images have two axes, volumes three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone
from melssl.data.resample import crop_matrix, resample
from melssl.errors import BackboneError
from melssl.frame import Frame
from melssl.methods.base import MethodConfig, full_precision

FLAT = 0.02  # one grey level of 255, normalised: what varies less is noise, and stays as flat

Level = Literal["image", "unit", "none"]
Sides = tuple[int, ...]


class TileConfig(MethodConfig):
    """Settings of a puzzle of tiles; a subclass per puzzle."""

    view_px: int | None = Field(
        None, ge=16, description="side of the view that is cut; None: the study's"
    )
    level: Level = Field(
        "image",
        description="mean and spread that every tile gets, per channel: those of its image; 0 and"
        " 1; or none, which leaves brightness as a cue of place",
    )
    projection_width: Annotated[int, Field(ge=8)] = 128
    hidden_width: Annotated[int, Field(ge=8)] = 512


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Tiles in the middle of a view, ``per_side`` along each axis, ``pitch`` apart.

    ``view``, ``tile`` and ``pitch`` are pixels along each of its axes, two or three. Each tile is
    moved by 0..``slack_px`` along each axis, drawn for itself.
    """

    view: Sides
    tile: Sides
    pitch: Sides
    slack_px: int
    per_side: int = 3

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        n: int = self.per_side ** len(self.view)
        return n

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw the first corners (n, N, axes) of the tiles, in reading order, px."""
        moved = torch.randint(self.slack_px + 1, (n, self.n_tiles, len(self.view)), generator=rng)
        steps = []
        for view, tile, pitch in zip(self.view, self.tile, self.pitch, strict=True):
            extent = (self.per_side - 1) * pitch + tile + self.slack_px
            steps.append(torch.arange(self.per_side) * pitch + (view - extent) // 2)
        return torch.cartesian_prod(*steps) + moved


def cells(view: Sides, per_side: int, tile_share: float, moved: float = 1.0) -> TileGrid:
    """Return tiles that fill ``tile_share`` of the sides of equal cells.

    Each is moved within the share ``moved`` of what is left; the remainder parts neighbours surely.
    """
    pitch = tuple(side // per_side for side in view)
    tile = tuple(int(tile_share * cell + 1e-9) for cell in pitch)
    slack = int(moved * min(cell - side for cell, side in zip(pitch, tile, strict=True)))
    return TileGrid(view=view, tile=tile, pitch=pitch, slack_px=slack, per_side=per_side)


def cut(images: Tensor, corners: Tensor, tile: Sides, size: Sides) -> Tensor:
    """Return the tiles (B, N, C, *size) of ``images`` (B, C, *sides), resized from ``tile`` px.

    They are cut first and resized after, so that no tile holds a trace of its neighbour's pixels.
    """
    n, channels, *sides = images.shape
    tiles = images.new_empty(n, corners.shape[1], channels, *size, dtype=torch.float32)
    plain = torch.zeros(n, dtype=torch.bool, device=images.device)
    with full_precision(images):
        pixels = images.float()
        for index, corner in enumerate(corners.to(images.device, torch.float32).unbind(1)):
            lines = [
                crop_matrix(start, torch.full_like(start, float(length)), plain, wanted, side)
                for start, length, wanted, side in zip(
                    corner.unbind(1), tile, size, sides, strict=True
                )
            ]
            tiles[:, index] = _resampled(pixels, lines)
    return tiles


def _resampled(images: Tensor, lines: list[Tensor]) -> Tensor:
    """Return images (B, C, *sides) multiplied by one matrix (B, size, side) along each axis."""
    *depth, rows, columns = lines
    if not depth:
        return resample(images, rows, columns)
    flat = resample(images.flatten(1, 2), rows, columns)
    return torch.einsum("bsd,bcdhw->bcshw", depth[0], flat.view(*images.shape[:3], *flat.shape[2:]))


def levelled(tiles: Tensor, level: Level) -> Tensor:
    """Give all tiles of an image (B, N, C, *size) one mean and one spread per channel.

    ``unit``: 0 and 1 (Noroozi and Favaro 2016, section 4.2). ``image``: the means over its tiles,
    which hides as much and leaves light and colour in the range that the encoder will meet later.
    """
    if level == "none":
        return tiles
    axes = tuple(range(3, tiles.ndim))
    spread, mean = torch.std_mean(tiles, dim=axes, correction=0, keepdim=True)
    unit = (tiles - mean) / spread.clamp(min=FLAT)
    if level == "unit":
        return unit
    return unit * spread.mean(dim=1, keepdim=True) + mean.mean(dim=1, keepdim=True)


def answering_head(n_tiles: int, n_answers: int, config: TileConfig) -> nn.Sequential:
    """Return what scores the answers (N, C) from the embeddings of ``n_tiles`` tiles, side by side.

    One hidden layer; its batch norm is ours, and makes the puzzles learn several times as fast.
    """
    return nn.Sequential(
        nn.ReLU(),
        nn.Linear(n_tiles * config.projection_width, config.hidden_width, bias=False),
        nn.BatchNorm1d(config.hidden_width),
        nn.ReLU(),
        nn.Linear(config.hidden_width, n_answers),
    )


def fitting_sides(backbone: Backbone, frame: Frame, tile: Sides) -> Sides:
    """Return the sides that tiles are resized to for a backbone for ``frame``.

    They are the least multiples of the patch, or of what one place of the last map stands for, that
    are not smaller than the tile, as little is invented as can be; or the frame's own, which always
    fit, for a backbone that takes no other size.
    """
    place = backbone.place(frame)
    sides = tuple(-(-length // step) * step for length, step in zip(tile, place, strict=True))
    *depth, side, _ = sides
    try:
        backbone.place(Frame(side, depth[0] if depth else None, frame.channels))
    except (BackboneError, AssertionError, RuntimeError, ValueError):
        return frame.sides
    return sides
