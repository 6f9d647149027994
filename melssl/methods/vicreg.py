"""VICReg: two views agree, while every feature varies and none covaries with another."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.loss.vicreg_loss import covariance_loss, invariance_loss, variance_loss
from lightly.models.modules.heads import VICRegProjectionHead
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


class VicRegConfig(PairConfig):
    """Settings of VICReg (Bardes, Ponce and LeCun 2022, arXiv 2105.04906).

    The paper's projections have 8,192 features, for batches of 2,048. Over B samples, features of
    variance 1 covary by chance: the covariance term is then about ``2 d / B``, which a width of d
    that is many times B would let outweigh the rest.
    """

    label: ClassVar[str] = "VICReg"
    name: Literal["vicreg"] = "vicreg"
    invariance_weight: float = Field(25.0, gt=0)
    variance_weight: float = Field(25.0, gt=0)
    covariance_weight: float = Field(1.0, ge=0)
    projection_width: int = Field(256, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="invariance_weight", low=5, high=100, log=True),
            Dimension(name="variance_weight", low=5, high=100, log=True),
            Dimension(name="covariance_weight", low=0.1, high=10, log=True),
        )


class VicReg(Method):
    """Three terms over the projections z, z' (B, d) of two views, each with its weight.

    Invariance: mean of ``(z - z')^2``. Variance: mean over features of
    ``max(0, 1 - sqrt(var + 1e-4))``, mean of both views. Covariance: ``sum_{i != j} C_ij^2 / d``,
    sum of both views (Bardes et al. 2022, eq. 1 to 6; means where their equations have sums over
    features and over views, as in the authors' code, for which the weights 25, 25, 1 are meant).
    """

    Config = VicRegConfig
    media = ALL_MEDIA

    def __init__(self, config: VicRegConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.config = config
        self.backbone = backbone
        self.head = VICRegProjectionHead(
            backbone.width, config.hidden_width, config.projection_width
        )

    def step(self, batch: Batch) -> StepResult:
        """Return the weighted sum of the three terms, and log them."""
        projection = self.head(self.backbone(torch.cat(batch.views)))
        with full_precision(projection):
            first, second = projection.float().chunk(2)
            invariance = invariance_loss(first, second)
            every = [with_gradients(view) for view in (first, second)]
            variance = torch.stack([variance_loss(view) for view in every]).mean()
            covariance = torch.stack([covariance_loss(view) for view in every]).sum()
            loss = (
                self.config.invariance_weight * invariance
                + self.config.variance_weight * variance
                + self.config.covariance_weight * covariance
            )
        parts = {"invariance": invariance, "variance": variance, "covariance": covariance}
        return StepResult(loss=loss, parts={name: part.detach() for name, part in parts.items()})
