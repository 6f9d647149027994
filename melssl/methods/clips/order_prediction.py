"""Order prediction: in which order are four frames of a clip shown?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from melssl.backbones.base import Backbone
from melssl.methods.answers import EVEN
from melssl.methods.base import Batch, PoolFacts
from melssl.methods.clips.order_task import OrderTask
from melssl.methods.clips.pieces import (
    OrderConfig,
    PieceReader,
    check_depth,
    disguised,
    motion,
    orders_of,
    taken,
    uniform,
    whole_below,
    window_starts,
)
from melssl.space import Dimension

N_PIECES = 4


class OrderPredictionConfig(OrderConfig):
    """Settings of order prediction, OPN (Lee et al. 2017, arXiv 1708.01246)."""

    label: ClassVar[str] = "order prediction"
    name: Literal["order_prediction"] = "order_prediction"
    orders_per_clip: int = Field(
        4, ge=1, le=12, description="orders asked of each clip; late, its pieces are encoded once"
    )

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="span", low=0.15, high=1),
            Dimension(name="fusion", choices=("early", "late")),
        )


class OrderPrediction(OrderTask):
    """Cross-entropy over the twelve orders of four pieces, which count the same backwards.

    ``L = -1/(B K) sum_i sum_k log F_s(p_s(1), ..., p_s(4))`` (Lee et al. 2017, section 3): the
    pieces lie evenly in a window that is drawn by how much moves in it; of the 4! orders one and
    its reverse are one answer, as most movements can be gone through both ways.
    """

    Config = OrderPredictionConfig
    orders: Tensor

    def __init__(self, config: OrderPredictionConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.each = config.frames_each
        advice = "show more frames, or set frames_each lower"
        depth = check_depth(config.name, facts.frame.depth, N_PIECES * self.each, advice)
        wanted = round(config.span * (depth - self.each))
        self.reach = max(wanted, (N_PIECES - 1) * self.each)
        self.register_buffer("orders", one_way_orders(N_PIECES), persistent=False)
        self.chance = 1 / len(self.orders)
        late = config.fusion == "late"
        self.reader = PieceReader(backbone.width, N_PIECES, len(self.orders), config, late=late)

    def questions(self, clips: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pieces (B, 4, C, F, S, S), orders (B, K, 4) of them, and answers (B, K)."""
        drawn = uniform(batch, 1)
        asked = uniform(batch, self.config.orders_per_clip)
        backwards = uniform(batch, self.config.orders_per_clip, 1) < EVEN
        starts = self.starts(clips, drawn[:, 0])
        pieces = disguised(taken(clips, starts, self.each), self.config, batch)
        answers = whole_below(asked, len(self.orders))
        orders = self.orders.cpu()[answers]
        return pieces, torch.where(backwards, orders.flip(2), orders), answers

    def starts(self, clips: Tensor, drawn: Tensor) -> Tensor:
        """Return where the four pieces begin, in order, (B, 4)."""
        n_starts = clips.shape[2] - self.reach - self.each + 1
        allowed = torch.ones(n_starts, dtype=torch.bool)
        first = window_starts(motion(clips), self.reach + self.each, allowed, drawn).cpu()
        steps = torch.arange(N_PIECES) * self.reach // (N_PIECES - 1)
        return first[:, None] + steps


def one_way_orders(n_pieces: int) -> Tensor:
    """Return the orders (n!/2, n) that begin with an earlier piece than they end with."""
    orders = orders_of(n_pieces)
    return orders[orders[:, 0] < orders[:, -1]]
