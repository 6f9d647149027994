"""Tiles of a view: where they lie, how they are cut, levelled, and made to fit a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone
from melssl.data.resample import crop_matrix, resample
from melssl.errors import BackboneError
from melssl.methods.base import MethodConfig, full_precision

N_TILES = 9
FLAT = 0.02  # one grey level of 255, normalised: what varies less is noise, and stays as flat

Level = Literal["image", "unit", "none"]


class TileConfig(MethodConfig):
    """Settings of a puzzle of 3 x 3 tiles; a subclass per puzzle."""

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
    """3 x 3 tiles of ``tile_px``, ``pitch_px`` apart in the middle of a view of ``view_px``.

    Each is moved by 0..``slack_px`` down and right, drawn for itself.
    """

    view_px: int
    tile_px: int
    pitch_px: int
    slack_px: int

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw the top left corners (n, 9, 2) of the tiles, in reading order, px."""
        extent = 2 * self.pitch_px + self.tile_px + self.slack_px
        steps = torch.arange(3) * self.pitch_px + (self.view_px - extent) // 2
        moved = torch.randint(self.slack_px + 1, (n, N_TILES, 2), generator=rng)
        return torch.cartesian_prod(steps, steps) + moved


def cut(images: Tensor, corners: Tensor, tile_px: int, size_px: int) -> Tensor:
    """Return the tiles (B, 9, 3, size, size) of ``images`` (B, 3, S, S), resized.

    They are cut first and resized after, so that no tile holds a trace of its neighbour's pixels.
    """
    n, channels, view_px, _ = images.shape
    tiles = images.new_empty(n, N_TILES, channels, size_px, size_px, dtype=torch.float32)
    length = torch.full((n,), float(tile_px), device=images.device)
    plain = torch.zeros(n, dtype=torch.bool, device=images.device)
    with full_precision(images):
        for index, corner in enumerate(corners.to(images.device, torch.float32).unbind(1)):
            down, across = (
                crop_matrix(start, length, plain, size_px, view_px) for start in corner.unbind(1)
            )
            tiles[:, index] = resample(images.float(), down, across)
    return tiles


def levelled(tiles: Tensor, level: Level) -> Tensor:
    """Give the nine tiles of an image (B, 9, 3, T, T) one mean and one spread per channel.

    ``unit``: 0 and 1 (Noroozi and Favaro 2016, section 4.2). ``image``: the means over its tiles,
    which hides as much and leaves light and colour in the range that the encoder will meet later.
    """
    if level == "none":
        return tiles
    spread, mean = torch.std_mean(tiles, dim=(3, 4), correction=0, keepdim=True)
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


def fitting_px(backbone: Backbone, image_px: int, tile_px: int) -> int:
    """Return the side that tiles of ``tile_px`` are resized to for a backbone for ``image_px``.

    It is the least multiple of the patch, or of what one place of the last map stands for, that is
    not smaller than the tile, as little is invented as can be; or ``image_px``, which always fits,
    for a backbone that takes no other size.
    """
    stride = backbone.place_px(image_px)
    size_px = -(-tile_px // stride) * stride
    try:
        backbone.place_px(size_px)
    except (BackboneError, AssertionError, RuntimeError, ValueError):
        return image_px
    return size_px
