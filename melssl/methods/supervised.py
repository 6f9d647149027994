"""The control of equal compute: the budget's labels, for as long as pretraining would take."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.errors import TrainingError
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision
from melssl.training.loop import StepResult
from melssl.training.optim import TrainSpec


class SupervisedConfig(MethodConfig):
    """Settings of supervised training before the protocol."""

    label: ClassVar[str] = "supervised, equal compute"
    name: Literal["supervised"] = "supervised"
    views_per_step: int = Field(
        2, ge=1, description="views per image of the method it is the control of: SimCLR 2, MAE 1"
    )


class Supervised(Method):
    """Cross-entropy of a linear head, on the labelled images of the budget and on no others."""

    Config = SupervisedConfig
    uses_labels = True

    def __init__(self, config: SupervisedConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        if facts.n_classes < 2:
            raise TrainingError(f"supervised: expected 2 classes or more, got {facts.n_classes}")
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, facts.n_classes)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe once."""
        return (base,)

    @classmethod
    def schedule(
        cls, config: MethodConfig, training: TrainSpec, n_pool: int, n_rows: int
    ) -> TrainSpec:
        """Return a schedule that passes as many views as pretraining on the pool would.

        A budget smaller than a batch makes smaller steps, so it makes more of them.
        """
        assert isinstance(config, SupervisedConfig)
        pool = training.steps(n_pool)
        views = pool.total * pool.batch_size * config.views_per_step
        per_step = training.steps(n_rows).batch_size
        return training.replace(epochs=1, min_steps=-(-views // per_step))

    def step(self, batch: Batch) -> StepResult:
        """Return cross-entropy of one batch of labelled images."""
        (images,) = batch.views
        if batch.target is None:
            raise TrainingError("supervised: expected labels with the batch, got none")
        scores = self.head(self.backbone(images))
        with full_precision(scores):
            return StepResult(loss=F.cross_entropy(scores.float(), batch.target))
