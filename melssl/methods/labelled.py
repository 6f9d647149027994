"""Methods that train on the budget's labels, for as long as pretraining on the pool would take."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.errors import TrainingError
from melssl.frame import ALL_MEDIA
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts
from melssl.training.optim import TrainSpec


class LabelledConfig(MethodConfig):
    """Settings of a method that sees labels instead of the pool."""

    views_per_step: int = Field(
        2, ge=1, description="views per image of the method it is the control of: SimCLR 2, MAE 1"
    )


class Labelled(Method):
    """A method of equal compute: it sees the labelled images of the budget and no others."""

    uses_labels = True
    media = ALL_MEDIA

    def __init__(self, config: LabelledConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.name = config.name
        if facts.n_classes < 2:
            raise TrainingError(f"{self.name}: expected 2 classes or more, got {facts.n_classes}")
        self.backbone = backbone

    @classmethod
    def schedule(
        cls, config: MethodConfig, training: TrainSpec, n_pool: int, n_rows: int
    ) -> TrainSpec:
        """Return a schedule that passes as many views as pretraining on the pool would.

        A budget smaller than a batch makes smaller steps, so it makes more of them.
        """
        assert isinstance(config, LabelledConfig)
        pool = training.steps(n_pool)
        views = pool.total * pool.batch_size * config.views_per_step
        own = len(cls.recipes(config, ViewRecipe()))
        per_step = training.steps(n_rows).batch_size * own
        return training.replace(epochs=1, min_steps=-(-views // per_step))

    def target(self, batch: Batch) -> Tensor:
        """Return the classes (B,) of the batch; without them it cannot train."""
        if batch.target is None:
            raise TrainingError(f"{self.name}: expected labels with the batch, got none")
        return batch.target
