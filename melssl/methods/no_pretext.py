"""The control: no pretext task; random weights, or supervised weights from timm."""

from __future__ import annotations

from typing import ClassVar, Literal

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.errors import TrainingError
from melssl.files import content_digest
from melssl.frame import ALL_MEDIA, IMAGES
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts
from melssl.methods.weights import load_timm_weights
from melssl.settings import Json, UserPath
from melssl.training.trainable import StepResult


class Untrained(Method):
    """A control: it has no pretext task, so nothing of pretraining enters its key."""

    trains = False
    media = ALL_MEDIA

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return no recipe: there is nothing to look at."""
        return ()

    def step(self, batch: Batch) -> StepResult:
        """Refuse: a control has no loss."""
        raise TrainingError(f"{type(self).__name__} has no pretext task and cannot be trained")


class NoPretextConfig(MethodConfig):
    """Random weights, as the seed gives them."""

    label: ClassVar[str] = "no pretraining"
    name: Literal["no_pretext"] = "no_pretext"


class NoPretext(Untrained):
    """The backbone as it was initialised. Every other arm differs from it in the weights only."""

    Config = NoPretextConfig

    def __init__(self, config: NoPretextConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone


class TimmWeightsConfig(MethodConfig):
    """Weights that timm publishes for the backbone, from a file or from timm's hub."""

    label: ClassVar[str] = "ImageNet weights"
    name: Literal["timm_weights"] = "timm_weights"
    file: UserPath | None = None

    def keyed(self) -> dict[str, Json]:
        """Return the settings with the file's content in the place of its path."""
        if self.file is None:
            return super().keyed()
        return super().keyed() | {"file": content_digest(self.file, "method.file")}


class TimmWeights(Untrained):
    """The backbone with published weights; fails unless all of them could be loaded."""

    Config = TimmWeightsConfig
    media = IMAGES

    def __init__(self, config: TimmWeightsConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.loaded = load_timm_weights(backbone, config.file)
        self.backbone = backbone
