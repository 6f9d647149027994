"""Rubik's cube: eight cubes of a volume are shuffled and half of them turned; how, is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.frame import VOLUMES
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.methods.orders import shuffled, spread_orders
from melssl.methods.tiles import TileConfig, cells, cut, fitting_sides, levelled
from melssl.space import Dimension
from melssl.training.trainable import StepResult

PER_SIDE, N_CUBES = 2, 8
JITTER = 0.5  # of what a cube leaves of its cell; the other half is always a gap
HALF_TURNS = ((-3, -2), (-2, -1))  # axes turned over by half a turn about W, and about D


class RubikConfig(TileConfig):
    """Settings of Rubik's cube recovery (Zhuang et al. 2019, arXiv 1910.02241)."""

    label: ClassVar[str] = "Rubik's cube"
    name: Literal["rubik"] = "rubik"
    n_permutations: int = Field(64, ge=2, le=1000, description="orders to tell apart")
    orders_per_volume: int = Field(
        4, ge=1, le=64, description="orders asked of each volume; its cubes are encoded once"
    )
    cube_share: float = Field(
        0.8, ge=0.5, le=1, description="side of a cube in its cell; the rest is gap and jitter"
    )
    turn_share: float = Field(
        0.5, ge=0, le=1, description="probability of a half turn, about each of two axes"
    )
    order_weight: Annotated[float, Field(ge=0)] = 0.5
    turn_weight: Annotated[float, Field(ge=0)] = 0.5

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="n_permutations", low=8, high=512, log=True, whole=True),
            Dimension(name="cube_share", low=0.6, high=1),
        )


class Rubik(Method):
    """Cross-entropy of the order, and of the half turns of every cube.

    ``L = a L_P + b L_R``, ``L_P = -1/(B K) sum_i sum_k log F_s(e(c_s(1)), ..., e(c_s(8)))``, one
    encoder ``e`` for all cubes, ``s`` the drawn order; ``L_R`` the mean over cubes and two axes of
    ``-(g log r + (1 - g) log (1 - r))``, ``g`` whether it was turned (Zhuang et al. 2019, section
    2.2; their sum over cubes is a mean here). Each of a volume's K orders reuses its embeddings.
    """

    Config = RubikConfig
    media = VOLUMES
    questions: ClassVar[dict[str, int]] = {"turn": len(HALF_TURNS)}
    orders: Tensor

    def __init__(self, config: RubikConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.chance = 1 / config.n_permutations
        view = replace(facts.frame, side_px=config.view_px or facts.image_px)
        self.grid = cells(view.sides, PER_SIDE, config.cube_share, moved=JITTER)
        self.sides = fitting_sides(backbone, facts.frame, self.grid.tile)
        orders = torch.from_numpy(spread_orders(config.n_permutations, N_CUBES)).long()
        self.register_buffer("orders", orders, persistent=False)
        self.narrow = nn.Linear(backbone.width, config.projection_width)
        self.read = nn.Sequential(
            nn.ReLU(),
            nn.Linear(N_CUBES * config.projection_width, config.hidden_width, bias=False),
            nn.BatchNorm1d(config.hidden_width),
            nn.ReLU(),
        )
        self.order_head = nn.Linear(config.hidden_width, config.n_permutations)
        self.cube_heads = nn.ModuleDict(
            {
                name: nn.Linear(config.hidden_width, N_CUBES * n_each)
                for name, n_each in self.questions.items()
            }
        )

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe as it stands: no flip nor turn of it, or a cube's would be none.

        A left-right flip stays: it is no turn.
        """
        assert isinstance(config, RubikConfig)
        upright = base.replace(quarter_turns=False, vertical_flip=0, depth_flip=0, erase=0)
        return (upright.replace(size_px=config.view_px),)

    def step(self, batch: Batch) -> StepResult:
        """Return the weighted losses of one batch, ``orders_per_volume`` puzzles of each volume."""
        (volumes,) = batch.views
        cubes, asked = self.posed(volumes, batch)
        embedded = self.narrow(self.backbone(cubes.flatten(0, 1))).unflatten(0, (-1, N_CUBES))
        size = (batch.n_drawn, self.config.orders_per_volume)
        drawn = batch.mine(torch.randint(len(self.orders), size, generator=batch.rng))
        drawn = drawn.to(volumes.device)
        orders = self.orders[drawn]
        read = self.read(shuffled(embedded, orders).flatten(2).flatten(0, 1))
        scores, answers = self.order_head(read), drawn.flatten()
        said = {
            name: head(read).unflatten(1, (N_CUBES, -1)) for name, head in self.cube_heads.items()
        }
        parts = {"accuracy": share_right(scores, answers)}
        with full_precision(read):
            losses = {"order": F.cross_entropy(scores.float(), answers)}
            for name, truth in asked.items():
                flags = shuffled(truth.to(volumes.device), orders).flatten(0, 1)
                score = said[name].float()
                losses[name] = F.binary_cross_entropy_with_logits(score, flags.float())
                parts[f"{name}_accuracy"] = ((score.detach() > 0) == flags).float().mean()
            weights = self.weights()
            loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        parts |= {f"{name}_loss": value.detach() for name, value in losses.items()}
        return StepResult(loss=loss, parts=parts)

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss."""
        return {"order": self.config.order_weight, "turn": self.config.turn_weight}

    def posed(self, volumes: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cubes (B, 8, C, *sides) in reading order, and what was done to each.

        The answers are (B, 8, n) bool on the CPU by question: ``turn``, about W and about D.
        """
        cubes = self.cubes(volumes, batch)
        size = (batch.n_drawn, N_CUBES, len(HALF_TURNS))
        turned = batch.mine(torch.rand(size, generator=batch.rng) < self.config.turn_share)
        return half_turned(cubes, turned.to(cubes.device)), {"turn": turned}

    def cubes(self, volumes: Tensor, batch: Batch) -> Tensor:
        """Return the cubes (B, 8, C, *sides), moved in their cells and levelled."""
        corners = batch.mine(self.grid.sample(batch.n_drawn, batch.rng))
        return levelled(cut(volumes, corners, self.grid.tile, self.sides), self.config.level)


def half_turned(cubes: Tensor, turned: Tensor) -> Tensor:
    """Turn cubes (B, M, C, *sides) over where ``turned`` (B, M, 2) says so; twice undoes it."""
    for question, axes in enumerate(HALF_TURNS):
        chosen = turned[..., question, None, None, None, None]
        cubes = torch.where(chosen, cubes.flip(axes), cubes)
    return cubes
