"""Rubik's cube+: besides order and half turns, which cubes have holes?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from melssl.methods.base import Batch
from melssl.methods.volumes.rubik import N_CUBES, Rubik, RubikConfig


class RubikPlusConfig(RubikConfig):
    """Settings of Rubik's cube+ (Zhu et al. 2020, Medical Image Analysis 64)."""

    label: ClassVar[str] = "Rubik's cube+"
    name: Literal["rubik_plus"] = "rubik_plus"  # type: ignore[assignment]
    hidden_share: float = Field(0.5, ge=0, le=1, description="probability that a cube has holes")
    hole_share: float = Field(0.5, gt=0, lt=1, description="voxels of such a cube that are holes")
    hidden_weight: Annotated[float, Field(ge=0)] = 0.5


class RubikPlus(Rubik):
    """``L = a L_P + b L_R + c L_M``: as Rubik's cube, and binary cross-entropy of the holes.

    ``L_M`` is the mean over cubes of ``-(m log p + (1 - m) log (1 - p))``, ``m`` whether voxels of
    the cube were hidden, each by itself (Zhu et al. 2020). Holes show the cube's mean, so that the
    mean does not tell them.
    """

    Config = RubikPlusConfig
    config: RubikPlusConfig
    questions: ClassVar[dict[str, int]] = {**Rubik.questions, "hidden": 1}

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss."""
        return super().weights() | {"hidden": self.config.hidden_weight}

    def posed(self, volumes: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cubes, some with holes, and what was done to each, ``hidden`` among it."""
        cubes, asked = super().posed(volumes, batch)
        which, where = (
            torch.rand((batch.n_drawn, *size), generator=batch.rng)
            for size in ((N_CUBES, 1), (N_CUBES, 1, *cubes.shape[3:]))
        )
        hidden = batch.mine(which < self.config.hidden_share)
        holes = batch.mine(where < self.config.hole_share) & hidden[..., None, None, None]
        mean = cubes.mean(dim=(3, 4, 5), keepdim=True)
        return torch.where(holes.to(cubes.device), mean, cubes), asked | {"hidden": hidden}
