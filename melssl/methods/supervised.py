"""The control of equal compute: the budget's labels, for as long as pretraining would take."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.methods.base import Batch, PoolFacts, full_precision
from melssl.methods.labelled import Labelled, LabelledConfig
from melssl.training.trainable import StepResult


class SupervisedConfig(LabelledConfig):
    """Settings of supervised training before the protocol."""

    label: ClassVar[str] = "supervised, equal compute"
    name: Literal["supervised"] = "supervised"


class Supervised(Labelled):
    """Cross-entropy of a linear head, on the labelled images of the budget and on no others."""

    Config = SupervisedConfig

    def __init__(self, config: SupervisedConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.head = nn.Linear(backbone.width, facts.n_classes)

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch of labelled images."""
        (images,) = batch.views
        scores = self.head(self.backbone(images))
        with full_precision(scores):
            return StepResult(loss=F.cross_entropy(scores.float(), self.target(batch)))
