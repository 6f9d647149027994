"""Fine-tuning: the whole encoder and a linear head are trained on the labels of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.images import Images
from melssl.data.views import VIEW_PRESETS, ViewRecipe, apply_view
from melssl.evaluation.encode import encode
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.protocols.base import Evidence, Protocol, Verdict
from melssl.evaluation.selection import validation_split
from melssl.seeding import Seed
from melssl.training.best import Score
from melssl.training.devices import Rank
from melssl.training.loop import StepResult, Trainable, TrainLog, fit
from melssl.training.optim import TrainSpec


@dataclass(frozen=True)
class LabelledBatch:
    """Views (B, 3, S, S) and their classes (B,)."""

    images: Tensor
    target: Tensor


class Classifier(Trainable[LabelledBatch]):
    """An encoder and a linear head; the loss is cross-entropy."""

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, n_classes)

    def logits(self, images: Tensor) -> Tensor:
        """Return (B, K)."""
        scores: Tensor = self.head(self.backbone(images))
        return scores

    def step(self, batch: LabelledBatch) -> StepResult:
        """Return cross-entropy of one batch."""
        return StepResult(loss=F.cross_entropy(self.logits(batch.images).float(), batch.target))


@dataclass(frozen=True)
class LabelledFeed:
    """Augmented images of the budget, with their labels."""

    images: Images
    rows: np.ndarray
    target: np.ndarray
    recipe: ViewRecipe
    image_px: int

    @property
    def n_samples(self) -> int:
        """Images of the budget."""
        return len(self.rows)

    def batch(self, places: np.ndarray, draw: Seed, rank: Rank) -> LabelledBatch:
        """Return this rank's share, augmented on its device."""
        share = rank.share(len(places))
        params = self.recipe.sample(
            len(places), self.images.size_px, draw.child("view").torch(), size_px=self.image_px
        )
        mine = places[share]
        pixels = self.images.batch(self.rows[mine]).to(rank.device)
        target = torch.from_numpy(self.target[mine]).to(rank.device)
        return LabelledBatch(apply_view(pixels, params[share]), target)


class FineTune(Protocol):
    """Train everything on a fixed schedule; by default the last epoch: no label pays for choosing.

    With ``best_epoch``, patients of the budget are set aside and not trained on, and the epoch
    whose ROC AUC on them is highest is taken: the budget pays for the choice. A threshold costs a
    training per fold, so none is made unless ``threshold_folds`` asks for it.
    """

    label: ClassVar[str] = "fine-tuning"
    reads: ClassVar[Literal["embeddings", "weights"]] = "weights"
    name: Literal["fine_tune"] = "fine_tune"
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

    def training_spec(self) -> TrainSpec:
        """Return the schedule of fine-tuning."""
        return self.training

    def judge(self, evidence: Evidence) -> Verdict:
        """Train on the budget, score the test rows."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(evidence.seed.child("head").value)
            model = Classifier(evidence.backbone(), evidence.n_classes)
        aside = self._aside(evidence)
        feed = LabelledFeed(
            evidence.images,
            evidence.train[~aside],
            evidence.train_target[~aside],
            self.views,
            evidence.image_px,
        )
        log = fit(
            model,
            feed,
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
    device, size = evidence.rank.device, evidence.image_px
    logits = encode(model, model.logits, evidence.images, rows, size, device)
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
