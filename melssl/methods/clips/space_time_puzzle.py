"""Space-time puzzle: where, or when, does each of four shuffled cubes of a clip belong?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.frame import CLIPS
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.methods.clips.pieces import (
    PieceConfig,
    PieceReader,
    check_depth,
    disguised,
    orders_of,
    taken,
    uniform,
    whole_below,
    whole_frames,
)
from melssl.methods.tiles import cut, fitting_sides
from melssl.space import Dimension
from melssl.training.trainable import StepResult

N_CUBES, N_TURNS = 4, 4
Layout = Literal["space", "time"]
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "space": ("space",),
    "time": ("time",),
    "both": ("space", "time"),
}


class SpaceTimePuzzleConfig(PieceConfig):
    """Settings of space-time cubic puzzles (Kim et al. 2019, arXiv 1811.09795)."""

    label: ClassVar[str] = "space-time puzzle"
    name: Literal["space_time_puzzle"] = "space_time_puzzle"
    layout: Literal["space", "time", "both"] = Field(
        "both", description="cubes of 2 x 2 x 1 cells, of 1 x 1 x 4, or a puzzle of each"
    )
    cube_share: float = Field(
        0.8, ge=0.5, le=1, description="length of a cube in its cell; the rest is gap and jitter"
    )
    orders_per_clip: int = Field(4, ge=1, le=24, description="orders asked of each clip and layout")
    turn_weight: float = Field(
        0.0, ge=0, description="weight of asking, too, by how many quarters the puzzle was turned"
    )

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="layout", choices=("space", "time", "both")),
            Dimension(name="cube_share", low=0.6, high=1),
        )


class SpaceTimePuzzle(Method):
    """Cross-entropy over the 4! orders of four cubes, read from their embeddings side by side.

    ``L = -1/(B K) sum_i sum_k log F_s(e(t_s(1)), ..., e(t_s(4)))``, the mean over layouts (Kim
    et al. 2019, section 3). Cubes in space are a quarter of the picture and all frames long; those
    in time are the whole picture and a quarter of the frames. Each lies anywhere in its cell. With
    a ``turn_weight`` the whole puzzle is turned, and by how much is asked by a head of its own.
    """

    Config = SpaceTimePuzzleConfig
    media = CLIPS
    chance = 1 / 24
    orders: Tensor

    def __init__(self, config: SpaceTimePuzzleConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        step = backbone.patch[0] if isinstance(backbone, TokenBackbone) else 1
        advice = "show more frames, or patches of fewer"
        depth = check_depth(config.name, facts.frame.depth, N_CUBES * step, advice)
        cell = depth // N_CUBES
        self.cell = cell
        self.frames_each = max(int(config.cube_share * cell) // step, 1) * step
        self.tile_px = max(round(config.cube_share * (facts.frame.side_px // 2)), 1)
        tile = (depth, self.tile_px, self.tile_px)
        _, *plane = fitting_sides(backbone, facts.frame, tile)
        self.cube = (depth, *plane)
        self.register_buffer("orders", orders_of(N_CUBES), persistent=False)
        n_answers = len(self.orders)
        self.readers = nn.ModuleDict(
            {
                layout: PieceReader(backbone.width, N_CUBES, n_answers, config)
                for layout in LAYOUTS[config.layout]
            }
        )
        self.turns = (
            PieceReader(backbone.width, N_CUBES, N_TURNS, config) if config.turn_weight else None
        )

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe, time running forward, and upright where turns are asked."""
        assert isinstance(config, SpaceTimePuzzleConfig)
        forward = whole_frames(base).replace(depth_flip=0)
        upright = forward.replace(quarter_turns=False, vertical_flip=0)
        return (upright if config.turn_weight else forward,)

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch, some puzzles of each clip and layout."""
        (clips,) = batch.views
        losses, parts = [], {}
        for layout in LAYOUTS[self.config.layout]:
            cubes, orders, answers, turns = self.puzzles(clips, batch, layout)
            scores = self.readers[layout](self.backbone, cubes, orders)
            losses.append(_cross_entropy(scores, answers.flatten()))
            parts[f"accuracy_{layout}"] = share_right(scores, answers.flatten().to(scores.device))
            if self.turns is not None:
                read = self.turns(self.backbone, cubes, orders[:, :1])
                losses[-1] = losses[-1] + self.config.turn_weight * _cross_entropy(read, turns)
        parts["accuracy"] = torch.stack(list(parts.values())).mean()
        return StepResult(loss=torch.stack(losses).mean(), parts=parts)

    def puzzles(
        self, clips: Tensor, batch: Batch, layout: Layout
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return cubes (B, 4, C, F, s, s), orders (B, K, 4), answers (B, K), and turns (B,)."""
        where, asked = uniform(batch, N_CUBES, 3), uniform(batch, self.config.orders_per_clip)
        turns = whole_below(uniform(batch, 1)[:, 0], N_TURNS)
        cubes = self.in_space(clips, where) if layout == "space" else self.in_time(clips, where)
        cubes = disguised(cubes, self.config, batch)
        if self.turns is None:
            turns = torch.zeros_like(turns)
        turned = torch.stack([torch.rot90(cubes, k, (-2, -1)) for k in range(N_TURNS)])
        cubes = turned[turns.to(cubes.device), torch.arange(len(cubes), device=cubes.device)]
        answers = whole_below(asked, len(self.orders))
        return cubes, self.orders.cpu()[answers], answers, turns

    def in_time(self, clips: Tensor, where: Tensor) -> Tensor:
        """Return the cubes of four quarters of the frames, in order."""
        room = self.cell - self.frames_each + 1
        starts = torch.arange(N_CUBES) * self.cell + whole_below(where[:, :, 0], room)
        return taken(clips, starts, self.frames_each)

    def in_space(self, clips: Tensor, where: Tensor) -> Tensor:
        """Return the cubes of four quarters of the picture, in reading order, enlarged to fit."""
        depth, cell = clips.shape[2], clips.shape[-1] // 2
        plane = torch.cartesian_prod(*2 * [torch.arange(2) * cell])
        plane = plane + whole_below(where[:, :, 1:], cell - self.tile_px + 1)
        corners = nn.functional.pad(plane, (1, 0))  # all frames
        return cut(clips, corners, (depth, self.tile_px, self.tile_px), self.cube)


def _cross_entropy(scores: Tensor, answers: Tensor) -> Tensor:
    with full_precision(scores):
        return F.cross_entropy(scores.float(), answers.to(scores.device))
