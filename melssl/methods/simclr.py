"""SimCLR: two views of one image attract, all others in the batch repel."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field

from melssl.backbones.base import Backbone
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    PairConfig,
    PoolFacts,
    full_precision,
    several_processes,
)
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class SimClrConfig(PairConfig):
    """Settings of SimCLR (Chen et al. 2020, arXiv 2002.05709)."""

    label: ClassVar[str] = "SimCLR"
    name: Literal["simclr"] = "simclr"
    temperature: float = Field(0.2, ge=0.001, le=10)
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="temperature", low=0.05, high=1, log=True),
            Dimension(name="projection_width", low=32, high=512, log=True, whole=True),
        )


class SimClr(Method):
    """NT-Xent between the projections of two views.

    ``L_ij = -log( exp(s_ij / T) / sum_{k != i} exp(s_ik / T) )``, cosine ``s``, mean over the 2B
    projections (Chen et al. 2020, eq. 1).
    """

    Config = SimClrConfig
    media = ALL_MEDIA

    def __init__(self, config: SimClrConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.head = SimCLRProjectionHead(
            backbone.width, config.hidden_width, config.projection_width
        )
        self.loss = NTXentLoss(config.temperature, gather_distributed=several_processes())

    def step(self, batch: Batch) -> StepResult:
        """Return NT-Xent of one batch; both views pass the encoder together."""
        both = torch.cat(batch.views)
        projection = self.head(self.backbone(both))
        with full_precision(projection):
            first, second = projection.float().chunk(2)
            return StepResult(loss=self.loss(first, second))
