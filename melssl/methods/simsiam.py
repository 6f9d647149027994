"""SimSiam: predict the other view's projection, with neither negatives nor a momentum encoder."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead
from pydantic import Field

from melssl.backbones.base import Backbone
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    PairConfig,
    PoolFacts,
    full_precision,
)
from melssl.methods.byol import unit_spread
from melssl.space import Dimension
from melssl.training.optim import Rate
from melssl.training.trainable import StepResult

BOTTLENECK = 4


class SimSiamConfig(PairConfig):
    """Settings of SimSiam (Chen and He 2021, arXiv 2011.10566).

    The paper's widths are 2048, for a ResNet-50; the predictor's bottleneck is a quarter, as there.
    """

    label: ClassVar[str] = "SimSiam"
    name: Literal["simsiam"] = "simsiam"
    projection_width: int = Field(512, ge=8)
    hidden_width: int = Field(512, ge=8, description="of the projector")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="projection_width", low=64, high=1024, log=True, whole=True),
            Dimension(name="hidden_width", low=64, high=1024, log=True, whole=True),
        )


class SimSiam(Method):
    """Negative cosine of a prediction and the other view's projection.

    ``L = D(p1, sg z2) / 2 + D(p2, sg z1) / 2``, ``D(p, z) = -cos(p, z)``, ``sg`` stops the gradient
    (Chen and He 2021, eq. 1-4); -1 is perfect, and a collapsed network reaches it too. That shows
    in ``projection_spread``: the mean deviation of unit projections, ``1/sqrt(D)`` if healthy.
    """

    Config = SimSiamConfig
    media = ALL_MEDIA

    def __init__(self, config: SimSiamConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        width = config.projection_width
        self.backbone = backbone
        self.projector = SimSiamProjectionHead(backbone.width, config.hidden_width, width)
        self.predictor = SimSiamPredictionHead(width, width // BOTTLENECK, width)
        self.negative_cosine = NegativeCosineSimilarity()

    def rate(self, name: str) -> Rate:
        """Keep the predictor's rate: it must follow the projections to the end (section 4.2)."""
        return Rate(scheduled=not name.startswith("predictor."))

    def step(self, batch: Batch) -> StepResult:
        """Return the mean negative cosine; views pass one by one, as batch norm asks."""
        first, second = (self.projector(self.backbone(view)) for view in batch.views)
        from_first, from_second = self.predictor(first), self.predictor(second)
        with full_precision(first):
            towards_second = self.negative_cosine(from_first.float(), second.detach().float())
            towards_first = self.negative_cosine(from_second.float(), first.detach().float())
            loss = (towards_second + towards_first) / 2
            spread = torch.stack([unit_spread(z.float()) for z in (first, second)]).mean()
        return StepResult(loss=loss, parts={"projection_spread": spread})
