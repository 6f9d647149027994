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
from melssl.evaluation.protocols.base import Evidence, Protocol, Verdict
from melssl.seeding import Seed
from melssl.training.devices import Rank
from melssl.training.loop import StepResult, Trainable, fit
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
    """Train everything on a fixed schedule, take the last epoch: no label is spent on choosing."""

    label: ClassVar[str] = "fine-tuning"
    reads: ClassVar[Literal["embeddings", "weights"]] = "weights"
    name: Literal["fine_tune"] = "fine_tune"
    training: TrainSpec = TrainSpec(
        epochs=20, min_steps=150, batch_size=64, lr=1e-3, weight_decay=1e-2
    )
    views: ViewRecipe = Field(VIEW_PRESETS["weak"], description="augmentation of labelled images")

    def training_spec(self) -> TrainSpec:
        """Return the schedule of fine-tuning."""
        return self.training

    def judge(self, evidence: Evidence) -> Verdict:
        """Train on the budget, score the test rows."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(evidence.seed.child("head").value)
            model = Classifier(evidence.backbone(), evidence.n_classes)
        feed = LabelledFeed(
            evidence.images, evidence.train, evidence.train_target, self.views, evidence.image_px
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
        )
        device, size = evidence.rank.device, evidence.image_px
        logits = encode(model, model.logits, evidence.images, evidence.test, size, device)
        return Verdict(probability=softmax(logits.astype(np.float64), axis=1), log=log)
