"""Barlow Twins: two views agree in every feature, and no feature tells what another one tells."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from pydantic import Field

from melssl.backbones.base import Backbone
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    PairConfig,
    PoolFacts,
    full_precision,
    with_gradients,
)
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class BarlowTwinsConfig(PairConfig):
    """Settings of Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230).

    The paper's projections have 8,192 features, for batches of 2,048 and a ResNet-50; a correlation
    over 128 samples cannot tell so many apart.
    """

    label: ClassVar[str] = "Barlow Twins"
    name: Literal["barlow_twins"] = "barlow_twins"
    redundancy_weight: float = Field(0.0051, gt=0, description="lambda of the paper")
    projection_width: int = Field(512, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="redundancy_weight", low=5e-4, high=5e-2, log=True),
            Dimension(name="projection_width", low=64, high=1024, log=True, whole=True),
        )


class BarlowTwins(Method):
    """Cross-correlation between the projections of two views, pulled to the identity.

    ``L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2``, ``C`` over the batch, each feature at
    mean 0 and variance 1 (Zbontar et al. 2021, eq. 1 and 2). C is over the rows of all processes.
    """

    Config = BarlowTwinsConfig
    media = ALL_MEDIA

    def __init__(self, config: BarlowTwinsConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.head = BarlowTwinsProjectionHead(
            backbone.width, config.hidden_width, config.projection_width
        )
        self.loss = BarlowTwinsLoss(config.redundancy_weight)

    def step(self, batch: Batch) -> StepResult:
        """Return the distance of one batch's cross-correlation from the identity."""
        projection = self.head(self.backbone(torch.cat(batch.views)))
        with full_precision(projection):
            first, second = (with_gradients(view) for view in projection.float().chunk(2))
            return StepResult(loss=self.loss(first, second))
