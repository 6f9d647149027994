"""Jigsaw: in which of a set of orders do the nine tiles of an image lie?"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, permutations
from math import factorial
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.methods.tiles import (
    N_TILES,
    TileConfig,
    TileGrid,
    answering_head,
    cut,
    fitting_px,
    levelled,
)
from melssl.space import Dimension
from melssl.training.loop import StepResult

SPREAD_FIRST = 10**6  # more than any sum of distances: the smallest distance decides before it


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
    and ``e`` one encoder for all tiles (Noroozi and Favaro 2016, section 3). Each of the K orders
    of an image reuses its embeddings, as the encoder sees every tile alone.
    """

    Config = JigsawConfig
    orders: Tensor

    def __init__(self, config: JigsawConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.chance = 1 / config.n_permutations
        view_px = config.view_px or facts.image_px
        cell = view_px // 3
        tile = int(config.tile_share * cell + 1e-9)
        self.grid = TileGrid(view_px=view_px, tile_px=tile, pitch_px=cell, slack_px=cell - tile)
        self.size_px = fitting_px(backbone, facts.image_px, tile)
        orders = torch.from_numpy(spread_orders(config.n_permutations)).long()
        self.register_buffer("orders", orders, persistent=False)
        self.narrow = nn.Linear(backbone.width, config.projection_width)
        self.head = answering_head(N_TILES, config.n_permutations, config)

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
        embedded = self.narrow(self.backbone(tiles.flatten(0, 1))).unflatten(0, (-1, N_TILES))
        scores = self.head(shuffled(embedded, self.orders[drawn]).flatten(2).flatten(0, 1))
        with full_precision(scores):
            loss = F.cross_entropy(scores.float(), drawn.flatten())
        return StepResult(loss=loss, parts={"accuracy": share_right(scores, drawn.flatten())})

    def tiles(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Return the tiles (B, 9, 3, T, T) in reading order, moved in their cells and levelled."""
        corners = self.grid.sample(len(images), rng)
        return levelled(cut(images, corners, self.grid.tile_px, self.size_px), self.config.level)


def shuffled(tiles: Tensor, orders: Tensor) -> Tensor:
    """Return (B, K, 9, ...): place p of puzzle k shows the tile ``orders[b, k, p]`` of image b."""
    image = torch.arange(len(tiles), device=tiles.device)[:, None, None]
    return tiles[image, orders]


@lru_cache(maxsize=4)
def spread_orders(n: int) -> np.ndarray:
    """Return ``n`` orders (n, 9) of nine tiles that differ in as many places as can be.

    Greedy, as algorithm 1 of Noroozi and Favaro 2016, but the same for ever: from the identity on,
    the next is the one whose nearest order among the chosen is the farthest; then the one of the
    largest sum of distances; then the first in lexicographic order.
    """
    each = chain.from_iterable(permutations(range(N_TILES)))
    known = np.fromiter(each, np.int8, N_TILES * factorial(N_TILES)).reshape(-1, N_TILES)
    by_place = np.ascontiguousarray(known.T)  # ten times as fast to compare as row by row
    nearest, total = np.full(len(known), N_TILES, np.int32), np.zeros(len(known), np.int32)
    chosen = [0]
    while len(chosen) < n:
        last = known[chosen[-1]][:, None]
        distance = (by_place != last).sum(axis=0, dtype=np.int32)
        nearest, total = np.minimum(nearest, distance), total + distance
        chosen.append(int(np.argmax(nearest * SPREAD_FIRST + total)))
    return known[chosen]
