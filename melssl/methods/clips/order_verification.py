"""Order verification: does the middle one of three frames lie between the others?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
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
    taken,
    uniform,
    whole_below,
    window_starts,
)
from melssl.space import Dimension

ORDERED, SHUFFLED = (0, 1, 2), (0, 3, 2)  # of the pieces first, between, last, outside


class OrderVerificationConfig(OrderConfig):
    """Settings of order verification, Shuffle and Learn (Misra et al. 2016, arXiv 1603.08561)."""

    label: ClassVar[str] = "order verification"
    name: Literal["order_verification"] = "order_verification"

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="span", low=0.15, high=0.9),
            Dimension(name="fusion", choices=("early", "late")),
        )


class OrderVerification(OrderTask):
    """Cross-entropy of ordered against shuffled, read from three pieces of a clip.

    ``L = -1/(2B) sum_i [log F_1(b, c, d) + log F_0(b, x, d)]``: b, d begin and end a window that is
    drawn by how much moves in it, c lies between them and x outside (Misra et al. 2016, section
    3.1). Each triple is shown forwards or backwards: order has no direction here. The paper asks
    three shuffled triples to one ordered; here both are asked of every clip.
    """

    Config = OrderVerificationConfig
    chance = EVEN

    def __init__(
        self, config: OrderVerificationConfig, backbone: Backbone, facts: PoolFacts
    ) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.each = config.frames_each
        advice = "show more frames, or set frames_each lower"
        depth = check_depth(config.name, facts.frame.depth, 4 * self.each, advice)
        # between b and d there is room for c, and outside of them for x
        wanted = round(config.span * (depth - self.each))
        self.reach = min(max(wanted, 2 * self.each), depth - 2 * self.each)
        late = config.fusion == "late"
        self.reader = PieceReader(backbone.width, 3, 2, config, late=late)

    def questions(self, clips: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pieces (B, 4, C, F, S, S), orders (B, 2, 3) of them, and answers (B, 2)."""
        starts = self.starts(clips, uniform(batch, 3))
        backwards = uniform(batch, 2, 1) < EVEN
        pieces = disguised(taken(clips, starts, self.each), self.config, batch)
        orders = torch.tensor([ORDERED, SHUFFLED]).expand(len(clips), -1, -1)
        orders = torch.where(backwards, orders.flip(2), orders)
        return pieces, orders, torch.tensor([1, 0]).expand(len(clips), -1)

    def starts(self, clips: Tensor, drawn: Tensor) -> Tensor:
        """Return where the pieces first, between, last and outside begin, (B, 4)."""
        depth, each, reach = clips.shape[2], self.each, self.reach
        first = torch.arange(depth - reach - each + 1)
        n_before = (first - each + 1).clamp(min=0)
        n_after = (depth - reach - 2 * each - first + 1).clamp(min=0)
        moved = motion(clips)
        b = window_starts(moved, reach + each, n_before + n_after > 0, drawn[:, 0]).cpu()
        c = b + each + whole_below(drawn[:, 1], reach - 2 * each + 1)
        place = whole_below(drawn[:, 2], n_before[b] + n_after[b])
        x = torch.where(place < n_before[b], place, place - n_before[b] + b + reach + each)
        return torch.stack([b, c, b + reach, x], dim=1)
