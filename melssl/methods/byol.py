"""BYOL: predict what a slowly moving copy of the network makes of another view."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
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
from melssl.methods.target import Target, annealed
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult

FIRST_OF_BLUR = 20 / 11


class ByolConfig(PairConfig):
    """Settings of BYOL (Grill et al. 2020, arXiv 2006.07733).

    The paper's momentum of .996 is for some hundred thousand steps, its hidden width of 4096 for a
    ResNet-50; a target as slow as that would stay random for most of a training of some hundred.
    """

    label: ClassVar[str] = "BYOL"
    name: Literal["byol"] = "byol"
    momentum: float = Field(0.97, ge=0, le=1, description="of the target at first; 1 at last")
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (Dimension(name="momentum", low=0.9, high=0.999),)


class Byol(Method):
    """Distance between a prediction and the target's projection of the other view.

    ``L = |p1 - t2|^2 + |p2 - t1|^2`` with all of unit length, that is
    ``4 - 2 cos(p1, t2) - 2 cos(p2, t1)``; ``p`` predicts, ``t`` is the target's projection and gets
    no gradient (Grill et al. 2020, eq. 2 and below). 0 is perfect, 4 is what chance gives.
    """

    Config = ByolConfig
    media = ALL_MEDIA

    def __init__(self, config: ByolConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.momentum = config.momentum
        width, hidden = config.projection_width, config.hidden_width
        self.backbone = backbone
        self.projector = BYOLProjectionHead(backbone.width, hidden, width)
        self.predictor = BYOLPredictionHead(width, hidden, width)
        self.target = Target(self.online)
        self.negative_cosine = NegativeCosineSimilarity()

    @property
    def online(self) -> nn.Module:
        """What the target follows; the predictor is not part of it."""
        return nn.Sequential(self.backbone, self.projector)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return two recipes that share the base's blur and solarisation unequally."""
        return asymmetric(base)

    def step(self, batch: Batch) -> StepResult:
        """Return the distance of both predictions; views pass one by one, as batch norm asks."""
        projections = [self.projector(self.backbone(view)) for view in batch.views]
        first, second = (self.predictor(projection) for projection in projections)
        target_first, target_second = (self.target(view) for view in batch.views)
        with full_precision(first):
            towards_second = self.negative_cosine(first.float(), target_second.float())
            towards_first = self.negative_cosine(second.float(), target_first.float())
            spread = unit_spread(projections[0].detach().float())
        loss = 4 + 2 * (towards_second + towards_first)
        return StepResult(loss=loss, parts={"projection_spread": spread})

    def after_step(self, progress: Progress) -> None:
        """Move the target, ever more slowly."""
        self.target.follow(self.online, annealed(self.momentum, 1.0, progress.fraction))


@torch.no_grad()
def unit_spread(projection: Tensor) -> Tensor:
    """Return the deviation of projections (B, D) of length one, mean over features, a scalar.

    ``1/sqrt(D)`` if they point everywhere, 0 if they are one (Chen and He 2021, section 4.1).
    """
    # lightly has it in a module that imports a plotting library
    return F.normalize(projection, dim=1).std(dim=0).mean()


def asymmetric(base: ViewRecipe) -> tuple[ViewRecipe, ViewRecipe]:
    """Return two recipes with the blur and the solarisation of ``base`` dealt out unequally.

    As in the paper (appendix B), the first view is blurred ten times as often as the second, and
    only the second is solarised. The mean of both stays the base's: what a study left out because
    it would destroy a sign of disease does not come back, and no method sees more of it than
    others.
    """
    often = min(FIRST_OF_BLUR * base.blur, 1)
    solarised = min(2 * base.solarise, 1)
    return (
        base.replace(blur=often, solarise=2 * base.solarise - solarised),
        base.replace(blur=2 * base.blur - often, solarise=solarised),
    )
