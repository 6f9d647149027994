"""MoCo v3: a prediction finds the momentum encoder's key among those of the batch, both ways."""

from __future__ import annotations

from typing import ClassVar, Literal

from lightly.models.modules.heads import MoCoProjectionHead
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.backbones.vit import VitBackbone
from melssl.data.views import ViewRecipe
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PairConfig,
    PoolFacts,
    full_precision,
)
from melssl.methods.byol import asymmetric
from melssl.methods.target import Target, annealed, key_contrast
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult


class MoCoV3Config(PairConfig):
    """Settings of MoCo v3 (Chen, Xie and He 2021, arXiv 2104.02057).

    The paper takes a temperature of 1 for ResNets and .2 for ViTs, hidden layers of 4096 and
    batches of 4096, in which a query has 4095 negatives.
    """

    label: ClassVar[str] = "MoCo v3"
    name: Literal["moco_v3"] = "moco_v3"
    temperature: float = Field(0.2, ge=0.001, le=10)
    momentum: float = Field(0.99, ge=0, le=1, description="of the keys' encoder at first; 1 last")
    projection_width: int = Field(256, ge=8)
    hidden_width: int = Field(512, ge=8)
    freeze_patches: bool = Field(True, description="leave a ViT's patch projection as it began")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="temperature", low=0.05, high=1, log=True),
            Dimension(name="momentum", low=0.9, high=0.999),
        )


class MoCoV3(Method):
    """Symmetrised InfoNCE within the batch.

    ``L = c(q1, k2) + c(q2, k1)`` with
    ``c(q, k) = -2 T mean_i log( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) )``, all of unit length;
    ``q`` passes a predictor, ``k`` the momentum encoder (Chen et al. 2021, eq. 1, algorithm 1).
    A ViT's random patch projection stays as it is, against instability (their section 4.2).
    """

    Config = MoCoV3Config
    media = ALL_MEDIA

    def __init__(self, config: MoCoV3Config, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.temperature, self.momentum = config.temperature, config.momentum
        width, hidden = config.projection_width, config.hidden_width
        self.backbone = backbone
        if config.freeze_patches and isinstance(backbone, VitBackbone):
            backbone.vit.patch_embed.requires_grad_(requires_grad=False)
        self.projector = MoCoProjectionHead(backbone.width, hidden, width, 3, batch_norm=True)
        self.predictor = MoCoProjectionHead(width, hidden, width, 2, batch_norm=True)
        self.target = Target(self.online)

    @property
    def online(self) -> nn.Module:
        """What the momentum encoder follows; the predictor is not part of it."""
        return nn.Sequential(self.backbone, self.projector)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return two recipes that share the base's blur and solarisation unequally, as BYOL's."""
        return asymmetric(base)

    def step(self, batch: Batch) -> StepResult:
        """Return the contrast of both views; they pass one by one, as batch norm asks."""
        queries = [self.predictor(self.projector(self.backbone(view))) for view in batch.views]
        keys = [self.target(view) for view in batch.views]
        with full_precision(queries[0]):
            first, second = (F.normalize(query.float()) for query in queries)
            key_first, key_second = (F.normalize(key.float()) for key in keys)
            loss = key_contrast(first, key_second, self.temperature)
            loss = loss + key_contrast(second, key_first, self.temperature)
        return StepResult(loss=loss)

    def after_step(self, progress: Progress) -> None:
        """Move the keys' encoder, ever more slowly."""
        self.target.follow(self.online, annealed(self.momentum, 1.0, progress.fraction))
