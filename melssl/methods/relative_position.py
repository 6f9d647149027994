"""Relative position: on which side of one tile does its neighbour lie?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.methods.tiles import (
    TileConfig,
    TileGrid,
    answering_head,
    cut,
    fitting_sides,
    levelled,
)
from melssl.space import Dimension
from melssl.training.trainable import StepResult

SIDES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # down, right
N_TILES = 9
PLACES = 12  # 6 tiles have a neighbour on a straight side, 4 on a slant: 12 lists both evenly
GAP, MOVED = 48 / 96, 7 / 96  # of a tile's side, in the paper


class RelativePositionConfig(TileConfig):
    """Settings of relative patch location (Doersch et al. 2015, arXiv 1505.05192)."""

    label: ClassVar[str] = "relative position"
    name: Literal["relative_position"] = "relative_position"
    gap: float = Field(GAP, ge=0, le=1, description="mean gap of two tiles, in sides of a tile")
    moved: float = Field(
        MOVED, ge=0, le=0.5, description="how far a tile is moved each way, in its sides"
    )
    colour_drop: float = Field(
        0.5, ge=0, le=1, description="probability that a tile keeps one channel only"
    )

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="gap", low=0, high=1),
            Dimension(name="colour_drop", low=0, high=1),
        )


class RelativePosition(Method):
    """Cross-entropy over the eight sides, read from the embeddings of two tiles.

    ``L = -1/(8B) sum_i sum_d log F_d(e(t_i,a), e(t_i,a+d))`` with one encoder ``e`` (Doersch et al.
    2015, section 3). Each image is asked all eight sides ``d``; the first tile ``a`` is drawn among
    those that have a neighbour there, so that the place of the second alone tells little.
    """

    Config = RelativePositionConfig
    chance = 1 / len(SIDES)
    pairs: Tensor

    def __init__(
        self, config: RelativePositionConfig, backbone: Backbone, facts: PoolFacts
    ) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.grid = tile_grid(config.view_px or facts.image_px, config.gap, config.moved)
        self.sides = fitting_sides(backbone, facts.frame, self.grid.tile)
        self.register_buffer("pairs", neighbours(), persistent=False)
        self.narrow = nn.Linear(backbone.width, config.projection_width)
        self.head = answering_head(2, len(SIDES), config)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe; a view that is turned is turned with all its tiles."""
        assert isinstance(config, RelativePositionConfig)
        return (base.replace(size_px=config.view_px, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch, eight questions about each image."""
        (images,) = batch.views
        tiles = self.tiles(images, batch.rng)
        drawn = torch.randint(PLACES, (len(images), len(SIDES)), generator=batch.rng)
        asked = self.pairs[torch.arange(len(SIDES)), drawn]
        embedded = self.narrow(self.backbone(tiles.flatten(0, 1))).unflatten(0, (-1, N_TILES))
        image = torch.arange(len(images), device=images.device)[:, None, None]
        scores = self.head(embedded[image, asked].flatten(2).flatten(0, 1))
        sides = torch.arange(len(SIDES), device=images.device).repeat(len(images))
        with full_precision(scores):
            loss = F.cross_entropy(scores.float(), sides)
        return StepResult(loss=loss, parts={"accuracy": share_right(scores, sides)})

    def tiles(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return the tiles (B, 9, 3, T, T) in reading order: moved, levelled, colours dropped."""
        corners = self.grid.sample(len(images), rng)
        tiles = cut(images, corners, self.grid.tile, self.sides)
        return colour_dropped(levelled(tiles, self.config.level), self.config.colour_drop, rng)


def tile_grid(view_px: int, gap: float, moved: float) -> TileGrid:
    """Return the largest 3 x 3 tiles of a view with that gap and movement, in sides of a tile."""
    tile = int(view_px / (3 + 2 * gap + 2 * moved))
    slack = round(2 * moved * tile)
    pitch = min(round((1 + gap) * tile), (view_px - tile - slack) // 2)
    view, sides, pitches = ((side, side) for side in (view_px, tile, pitch))
    return TileGrid(view=view, tile=sides, pitch=pitches, slack_px=slack)


def neighbours() -> Tensor:
    """Return (8, 12, 2): for each side 12 pairs of a tile and its neighbour there, evenly many."""
    table = []
    for down, right in SIDES:
        pairs = [
            (3 * row + column, 3 * (row + down) + column + right)
            for row in range(3)
            for column in range(3)
            if 0 <= row + down < 3 and 0 <= column + right < 3
        ]
        table.append(pairs * (PLACES // len(pairs)))
    return torch.tensor(table)


def colour_dropped(tiles: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Leave one channel of a share of the tiles (B, 9, 3, T, T), and noise in the others.

    The noise has a hundredth of the channel's spread (Doersch et al. 2015, section 3.1): where
    lenses fringe colours, one channel against another tells the place in the picture.
    """
    size = tiles.shape[:2]
    dropped = torch.rand(size, generator=rng) < share
    kept = torch.randint(3, size, generator=rng)
    if not dropped.any():
        return tiles
    gone = (dropped[..., None] & (torch.arange(3) != kept[..., None])).to(tiles.device)
    spread = tiles.std(dim=(3, 4), correction=0, keepdim=True)
    spread = spread.take_along_dim(kept[..., None, None, None].to(tiles.device), dim=2)
    noise = torch.randn(tiles.shape, generator=rng).to(tiles.device)
    return torch.where(gone[..., None, None], noise * (spread / 100), tiles)
