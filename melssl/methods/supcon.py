"""Supervised contrastive: images of one class attract, on the labelled images of the budget."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.distributed
from lightly.models.modules.heads import SimCLRProjectionHead
from lightly.utils.dist import gather
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.methods.base import Batch, MethodConfig, PoolFacts, full_precision, several_processes
from melssl.methods.labelled import Labelled, LabelledConfig
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class SupConConfig(LabelledConfig):
    """Settings of supervised contrastive learning (Khosla et al. 2020, arXiv 2004.11362)."""

    label: ClassVar[str] = "supervised contrastive"
    name: Literal["supcon"] = "supcon"
    temperature: float = Field(0.1, ge=0.001, le=10)
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (Dimension(name="temperature", low=0.05, high=1, log=True),)


class SupCon(Labelled):
    """Contrast between the projections of two views, with all of one's class as positives.

    ``L = mean_i -1/|P(i)| sum_{p in P(i)} log( exp(z_i z_p / T) / sum_{a != i} exp(z_i z_a / T) )``
    over the 2B projections of unit length; P(i) are the others of i's class, its own second view at
    least (Khosla et al. 2020, eq. 2). Like ``supervised`` it sees the budget's images only.
    """

    Config = SupConConfig

    def __init__(self, config: SupConConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.temperature = config.temperature
        # no batch norm: at its end, it forbids what is asked for, all of a class in one place
        self.head = SimCLRProjectionHead(
            backbone.width, config.hidden_width, config.projection_width, batch_norm=False
        )

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe twice."""
        return (base, base)

    def step(self, batch: Batch) -> StepResult:
        """Return the contrast of one batch of labelled images."""
        classes = self.target(batch)
        projection = self.head(self.backbone(torch.cat(batch.views)))
        with full_precision(projection):
            unit = F.normalize(projection.float(), dim=1)
            return StepResult(loss=supervised_contrast(unit, classes.repeat(2), self.temperature))


def supervised_contrast(unit: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Return the loss of projections (N, D) of ``classes`` (N,) among those of all processes.

    An anchor that is alone in its class counts as 0; with two views of each image there is none.
    """
    others, their_classes, start = unit, classes, 0
    if several_processes():
        others, their_classes = torch.cat(gather(unit)), torch.cat(gather(classes))
        start = torch.distributed.get_rank() * len(unit)
    places = torch.arange(len(others), device=unit.device)
    itself = places == start + places[: len(unit), None]
    scores = (unit @ others.T / temperature).masked_fill(itself, -torch.inf)
    likelihood = scores.log_softmax(dim=1).masked_fill(itself, 0)
    positive = (classes[:, None] == their_classes) & ~itself
    per_anchor = (likelihood * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return -per_anchor.mean()
