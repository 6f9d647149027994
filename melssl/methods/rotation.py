"""Rotation: by how many quarter turns was the image turned?"""

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
from melssl.space import Dimension
from melssl.training.loop import StepResult

N_TURNS = 4


class RotationConfig(MethodConfig):
    """Settings of rotation prediction (Gidaris et al. 2018, arXiv 1803.07728)."""

    label: ClassVar[str] = "rotation"
    name: Literal["rotation"] = "rotation"
    mode: Literal["four_copies", "fixed"] = Field(
        "four_copies",
        description="all four rotations of each image in the batch, or one, fixed before training",
    )

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (Dimension(name="mode", choices=("four_copies", "fixed")),)


class Rotation(Method):
    """Cross-entropy over 0, 90, 180 and 270 degrees.

    ``L = -1/(4B) sum_i sum_k log F_k(rot_k(x_i))`` (Gidaris et al. 2018, eq. 2 and 3), all four
    copies in one batch. With ``mode="fixed"`` every image of the pool has one rotation, drawn with
    the initial weights, and shows no other: ``L = -1/B sum_i log F_k(i)(rot_k(i)(x_i))``.
    """

    Config = RotationConfig
    chance = 1 / N_TURNS
    turns: Tensor

    def __init__(self, config: RotationConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.fixed = config.mode == "fixed"
        self.head = nn.Linear(backbone.width, N_TURNS)
        if self.fixed:
            self.register_buffer("turns", torch.randint(N_TURNS, (facts.n_samples,)))

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe without what would make the answer ambiguous.

        A left-right flip keeps what is up; a top-bottom flip is one with half a turn behind it.
        """
        return (base.replace(quarter_turns=False, vertical_flip=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch."""
        (images,) = batch.views
        shown, turns = self.turned(images, batch.place)
        scores = self.head(self.backbone(shown))
        with full_precision(scores):
            loss = F.cross_entropy(scores.float(), turns)
        return StepResult(loss=loss, parts={"accuracy": share_right(scores, turns)})

    def turned(self, images: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return turned images and their quarter turns: 4B of them, or B where they are fixed."""
        copies = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(N_TURNS)])
        if not self.fixed:
            turns = torch.arange(N_TURNS, device=images.device)
            return copies.flatten(0, 1), turns.repeat_interleave(len(images))
        turns = self.turns[place.to(self.turns.device)]
        return copies[turns, torch.arange(len(images), device=images.device)], turns
