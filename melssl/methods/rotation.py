"""Rotation: by how many quarter turns, and about which axis, was the image or volume turned?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.errors import SpecError
from melssl.frame import ALL_MEDIA, Frame
from melssl.methods.answers import share_right
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.settings import Later
from melssl.space import Dimension
from melssl.training.trainable import StepResult

N_TURNS = 4
Turn = tuple[tuple[int, int], int]
IN_PLANE = (-2, -1)
PLANES = (IN_PLANE, (-3, -2), (-3, -1))  # of slices, and the two that cut across them


class RotationConfig(MethodConfig):
    """Settings of rotation prediction (Gidaris et al. 2018, arXiv 1803.07728)."""

    label: ClassVar[str] = "rotation"
    name: Literal["rotation"] = "rotation"
    mode: Literal["four_copies", "fixed", "drawn"] = Field(
        "four_copies",
        description="all rotations of each image in the batch; or one, fixed before training; or"
        " one, drawn anew in each step",
    )
    axes: Annotated[Literal["plane", "all"], Later()] = Field(
        "plane", description="turns within slices, four; or about each axis of a cube, ten"
    )

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (Dimension(name="mode", choices=("four_copies", "fixed")),)


class Rotation(Method):
    """Cross-entropy over 0, 90, 180 and 270 degrees.

    ``L = -1/(4B) sum_i sum_k log F_k(rot_k(x_i))`` (Gidaris et al. 2018, eq. 2 and 3), all four
    copies in one batch. With ``mode="fixed"`` every image of the pool has one rotation, drawn with
    the initial weights, and shows no other: ``L = -1/B sum_i log F_k(i)(rot_k(i)(x_i))``. Of clips
    all frames are turned alike (Jing and Tian 2018). Of a cube, ``axes="all"`` asks for three
    quarter turns about each of three axes, or none (Taleb et al. 2020).
    """

    Config = RotationConfig
    media = ALL_MEDIA
    chance = 1 / N_TURNS
    turns: Tensor

    def __init__(self, config: RotationConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.mode = config.mode
        self.answers = answers(config, facts.frame)
        self.chance = 1 / len(self.answers)
        self.head = nn.Linear(backbone.width, len(self.answers))
        if self.mode == "fixed":
            turns = torch.randint(len(self.answers), (facts.n_samples,))
            self.register_buffer("turns", turns)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe without what would make the answer ambiguous.

        A left-right flip keeps what is up; a top-bottom flip is one with half a turn behind it, and
        so is a flip of slices where turns across them are asked.
        """
        assert isinstance(config, RotationConfig)
        depth_flip = base.depth_flip if config.axes == "plane" else 0
        return (base.replace(quarter_turns=False, vertical_flip=0, depth_flip=depth_flip),)

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch."""
        (images,) = batch.views
        shown, turns = self.turned(images, self.asked(batch))
        scores = self.head(self.backbone(shown))
        with full_precision(scores):
            loss = F.cross_entropy(scores.float(), turns)
        return StepResult(loss=loss, parts={"accuracy": share_right(scores, turns)})

    def asked(self, batch: Batch) -> Tensor | None:
        """Return the turn (B,) of each image, a place in ``answers``; None: all are shown."""
        if self.mode == "four_copies":
            return None
        if self.mode == "fixed":
            return self.turns[batch.place.to(self.turns.device)]
        return batch.mine(torch.randint(len(self.answers), (batch.n_drawn,), generator=batch.rng))

    def turned(self, images: Tensor, asked: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return turned images and their turns: each image once, or A B of them, in all turns."""
        copies = torch.stack([images.rot90(k, plane) for plane, k in self.answers])
        if asked is None:
            turns = torch.arange(len(copies), device=images.device)
            return copies.flatten(0, 1), turns.repeat_interleave(len(images))
        turns = asked.to(images.device)
        return copies[turns, torch.arange(len(images), device=images.device)], turns


def answers(config: RotationConfig, frame: Frame) -> tuple[Turn, ...]:
    """Return the turns that are told apart, a plane and its quarters each, the upright one first.

    Raises:
        SpecError: turns across slices are asked of what is no cube.

    """
    if config.axes == "all" and len(set(frame.sides)) + len(frame.sides) != 4:
        raise SpecError(
            f"rotation: axes=all turns cubes, but the view has the sides {frame.sides}; set depth"
            " to image_px, or axes=plane"
        )
    planes = (IN_PLANE,) if config.axes == "plane" else PLANES
    return ((IN_PLANE, 0), *((plane, k) for plane in planes for k in range(1, N_TURNS)))
