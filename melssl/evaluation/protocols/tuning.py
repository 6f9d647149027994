"""Tuning: encoder and linear head are trained on the labels of the budget, all or in part."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.special import softmax
from torch import nn

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.data.cohort import Cohort
from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, ViewRecipe
from melssl.errors import BackboneError
from melssl.evaluation.encode import encode
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.protocols.base import Evidence, Protocol, Reads, Verdict
from melssl.evaluation.protocols.classifier import (
    Classifier,
    Freedom,
    Objective,
    inverse_frequency,
)
from melssl.evaluation.protocols.labelled import LabelledFeed, Sampling
from melssl.evaluation.selection import validation_split
from melssl.frame import Frame
from melssl.settings import Later
from melssl.space import Dimension
from melssl.training.best import Score
from melssl.training.loop import TrainLog, fit
from melssl.training.optim import TrainSpec


class Tuning(Protocol):
    """Train on a fixed schedule; by default the last epoch: no label pays for choosing.

    With ``best_epoch``, patients of the budget are set aside and not trained on, and the epoch
    whose ROC AUC on them is highest is taken: the budget pays for the choice. A threshold costs a
    training per fold, so none is made unless ``threshold_folds`` asks for it.
    """

    reads: ClassVar[Reads] = "weights"
    threshold_folds: int = Field(
        0, ge=0, description="folds of the budget that thresholds come from: a training each"
    )
    training: TrainSpec = TrainSpec(
        epochs=20, min_steps=150, batch_size=64, lr=1e-3, weight_decay=1e-2
    )
    views: ViewRecipe = Field(VIEW_PRESETS["weak"], description="augmentation of labelled images")
    selection: Literal["last_epoch", "best_epoch"] = "last_epoch"
    validation_share: float = Field(
        0.2, gt=0, lt=1, description="patients of the budget that choose the best epoch"
    )
    frozen_share: Annotated[float, Later()] = Field(
        0.0, ge=0, lt=1, description="share of the steps, the first, in which only the head learns"
    )
    sampling: Annotated[Sampling, Later()] = Field(
        "natural", description="balanced: every class equally often in a batch"
    )
    class_weight: Annotated[Literal["none", "inverse"], Later()] = Field(
        "none", description="inverse: every class counts alike in the loss"
    )
    focal_gamma: Annotated[float, Later()] = Field(
        0.0, ge=0, description="of the focal loss; 0: cross-entropy"
    )
    mixup_alpha: Annotated[float, Later()] = Field(
        0.0, ge=0, description="of the Beta that mixes images in pairs; 0: none is mixed"
    )
    layer_decay: Annotated[float, Later()] = Field(
        1.0, gt=0, le=1, description="learning rate of a stage over that of what follows it"
    )
    drop_path: Annotated[float | None, Later()] = Field(
        None, ge=0, lt=1, description="of the encoder while it is tuned; None: as pretrained"
    )

    @model_validator(mode="after")
    def _correct_once(self) -> Tuning:
        if self.sampling == "balanced" and self.class_weight == "inverse":
            raise ValueError(
                "sampling=balanced and class_weight=inverse correct the shares of classes twice;"
                " use one of them"
            )
        return self

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies: rate and decay, and how the encoder is freed."""
        return (
            *(dimension.below("training") for dimension in self.training.space()),
            Dimension(name="frozen_share", low=0, high=0.5),
            Dimension(name="layer_decay", low=0.5, high=1),
        )

    def training_spec(self) -> TrainSpec:
        """Return the schedule of tuning."""
        return self.training

    def backbone_config(self, config: BackboneConfig) -> BackboneConfig:
        """Return the backbone with the drop path of tuning, which has no weights.

        Raises:
            BackboneError: the backbone has no drop path.

        """
        if self.drop_path is None:
            return config
        if "drop_path" not in type(config).model_fields:
            raise BackboneError(
                f"protocol.drop_path: the backbone {config.family!r} has no drop path; leave it"
                " out, or use a timm model with backbone=cnn or backbone=vit"
            )
        return config.replace(drop_path=self.drop_path)

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse a drop path that the backbone does not have."""
        self.backbone_config(config)

    def freedom(self) -> Freedom:
        """Return what of the encoder learns."""
        return Freedom(frozen_share=self.frozen_share, layer_decay=self.layer_decay)

    def classifier(self, backbone: Backbone, target: np.ndarray, n_classes: int) -> Classifier:
        """Return what is trained, for the labels ``target`` (n,)."""
        inverse = self.class_weight == "inverse"
        weight = inverse_frequency(target, n_classes) if inverse else None
        objective = Objective(weight=weight, gamma=self.focal_gamma)
        return Classifier(backbone, n_classes, objective, self.freedom())

    def feed(
        self, images: Images, rows: np.ndarray, target: np.ndarray, frame: Frame
    ) -> LabelledFeed:
        """Return the batches of the images at ``rows`` (n,) with their labels (n,)."""
        how = (self.views, frame, self.sampling, self.mixup_alpha)
        return LabelledFeed(images, rows, target, *how)

    def judge(self, evidence: Evidence) -> Verdict:
        """Train on the budget, score the test rows."""
        aside = self._aside(evidence)
        rows, target = evidence.train[~aside], evidence.train_target[~aside]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(evidence.seed.child("head").value)
            model = self.classifier(evidence.backbone(), target, evidence.n_classes)
        log = fit(
            model,
            self.feed(evidence.images, rows, target, evidence.frame),
            self.training,
            evidence.seed.child("fine_tune"),
            evidence.rank,
            state_file=evidence.state_file,
            checkpoint_seconds=evidence.checkpoint_seconds,
            listen=evidence.listen,
            choose=_roc_auc_on(evidence, np.flatnonzero(aside)) if aside.any() else None,
        )
        probability = _probability(model, evidence, evidence.test)
        return Verdict(probability=probability, log=log, chosen=_chosen(log, aside))

    def _aside(self, evidence: Evidence) -> np.ndarray:
        """Return which samples of the budget choose the epoch and are not trained on, (n,) bool."""
        if self.selection == "last_epoch":
            return np.zeros(len(evidence.train), dtype=bool)
        return validation_split(
            evidence.train_patient, evidence.train_target, self.validation_share, evidence.seed
        )


def _probability(model: nn.Module, evidence: Evidence, rows: np.ndarray) -> np.ndarray:
    assert isinstance(model, Classifier)
    device, frame = evidence.rank.device, evidence.frame
    logits = encode(model, model.logits, evidence.images, rows, frame, device)
    probability: np.ndarray = softmax(logits.astype(np.float64), axis=1)
    return probability


def _roc_auc_on(evidence: Evidence, places: np.ndarray) -> Score:
    """Return the score that chooses an epoch: ROC AUC of the budget's samples at ``places``."""

    def score(model: nn.Module) -> float:
        probability = _probability(model, evidence, evidence.train[places])
        return METRICS["roc_auc"](evidence.scored(places, probability))

    return score


def _chosen(log: TrainLog, aside: np.ndarray) -> dict[str, float]:
    if not aside.any():
        return {}
    ((step, value),) = log.curves["chosen"]
    return {"step": step, "validation_roc_auc": value, "n_validation_images": int(aside.sum())}
