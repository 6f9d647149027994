"""Jigsaw: in which of a set of orders do the tiles of an image or a volume lie?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.frame import IMAGES, VOLUMES
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.methods.orders import shuffled, spread_orders
from melssl.methods.tiles import TileConfig, answering_head, cells, cut, fitting_sides, levelled
from melssl.settings import Later
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class JigsawConfig(TileConfig):
    """Settings of the jigsaw puzzle (Noroozi and Favaro 2016, arXiv 1603.09246)."""

    label: ClassVar[str] = "jigsaw"
    name: Literal["jigsaw"] = "jigsaw"
    n_permutations: int = Field(64, ge=2, le=1000, description="orders to tell apart")
    orders_per_image: int = Field(
        8, ge=1, le=64, description="orders asked of each image; its tiles are encoded once"
    )
    tile_share: float = Field(
        64 / 75, ge=0.5, le=1, description="side of a tile in its cell; the rest is gap and jitter"
    )
    tiles_per_side: Annotated[int, Later()] = Field(
        3, ge=2, le=4, description="9 tiles of an image and 27 of a volume, or 4 and 8"
    )
    grayscale: float = Field(0.3, ge=0, le=1, description="probability of an image without colour")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="n_permutations", low=8, high=512, log=True, whole=True),
            Dimension(name="grayscale", low=0, high=1),
        )


class Jigsaw(Method):
    """Cross-entropy over the orders, read from the concatenated embeddings of the tiles.

    ``L = -1/(B K) sum_i sum_k log F_s(e(t_i,p_s(1)), ..., e(t_i,p_s(9)))``, ``s`` the drawn order
    and ``e`` one encoder for all tiles (Noroozi and Favaro 2016, section 3; for volumes Taleb et
    al. 2020). Each of the K orders of an image reuses its embeddings, as the encoder sees every
    tile alone.
    """

    Config = JigsawConfig
    media = IMAGES | VOLUMES
    orders: Tensor

    def __init__(self, config: JigsawConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.chance = 1 / config.n_permutations
        view = replace(facts.frame, side_px=config.view_px or facts.image_px)
        self.grid = cells(view.sides, config.tiles_per_side, config.tile_share)
        self.sides = fitting_sides(backbone, facts.frame, self.grid.tile)
        orders = torch.from_numpy(spread_orders(config.n_permutations, self.grid.n_tiles)).long()
        self.register_buffer("orders", orders, persistent=False)
        self.narrow = nn.Linear(backbone.width, config.projection_width)
        self.head = answering_head(self.grid.n_tiles, config.n_permutations, config)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe with a share of grey images; a turned image is a puzzle too."""
        assert isinstance(config, JigsawConfig)
        return (base.replace(size_px=config.view_px, grayscale=config.grayscale, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch, ``orders_per_image`` puzzles of each image."""
        (images,) = batch.views
        tiles = self.tiles(images, batch.rng)
        size = (len(images), self.config.orders_per_image)
        drawn = torch.randint(len(self.orders), size, generator=batch.rng).to(images.device)
        embedded = self.narrow(self.backbone(tiles.flatten(0, 1))).unflatten(0, tiles.shape[:2])
        scores = self.head(shuffled(embedded, self.orders[drawn]).flatten(2).flatten(0, 1))
        with full_precision(scores):
            loss = F.cross_entropy(scores.float(), drawn.flatten())
        return StepResult(loss=loss, parts={"accuracy": share_right(scores, drawn.flatten())})

    def tiles(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return tiles (B, N, C, *sides) in reading order, moved in their cells and levelled."""
        corners = self.grid.sample(len(images), rng)
        return levelled(cut(images, corners, self.grid.tile, self.sides), self.config.level)
