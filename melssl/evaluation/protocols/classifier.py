"""Classifier: an encoder and a linear head; what of the encoder learns, how fast, by which loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.errors import BackboneError
from melssl.evaluation.protocols.labelled import LabelledBatch
from melssl.training.optim import Rate
from melssl.training.trainable import Progress, StepResult, Trainable


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``mean_i w[y_i] (1 - p_i)^gamma (-ln p_i)``, p_i the probability of the true class y_i.

    The focal loss of Lin et al. 2017, equation 5; with gamma 0 and no weights, cross-entropy.
    """

    weight: tuple[float, ...] | None = None
    gamma: float = 0.0

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over (B, K) float32 logits and their classes (B,)."""
        if self.weight is None and self.gamma == 0:
            return F.cross_entropy(logits, target)
        log_p = F.log_softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
        loss = -log_p
        if self.gamma:
            # kept off 0, where the slope of a root is infinite
            loss = loss * (-torch.expm1(log_p)).clamp(min=1e-12) ** self.gamma
        if self.weight is not None:
            loss = loss * logits.new_tensor(self.weight)[target]
        return loss.mean()


def inverse_frequency(target: np.ndarray, n_classes: int) -> tuple[float, ...]:
    """Return a weight per class by which all present ones count alike; 1 is the mean of samples."""
    count = np.bincount(target, minlength=n_classes)
    share = len(target) / (np.count_nonzero(count) * np.maximum(count, 1))
    return tuple(np.where(count > 0, share, 0.0).tolist())


@dataclass(frozen=True, kw_only=True)
class Freedom:
    """What of the encoder learns: the last stages (None: all), after ``frozen_share`` of the steps.

    Each stage learns ``layer_decay`` times as fast as what follows it, the head at the full rate.
    """

    last_stages: int | None = None
    frozen_share: float = 0.0
    layer_decay: float = 1.0


class Classifier(Trainable[LabelledBatch]):
    """An encoder and a linear head. What rests is in evaluation mode and has no gradient."""

    def __init__(
        self,
        backbone: Backbone,
        n_classes: int,
        objective: Objective | None = None,
        freedom: Freedom | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, n_classes)
        self.objective = objective or Objective()
        self.freedom = freedom or Freedom()
        self.depth = depths(backbone)
        self.n_stages = len(backbone.stages())
        self.learning: list[nn.Module] = [backbone]
        self.encoder_rests = False
        if self.freedom.last_stages is not None:
            backbone.requires_grad_(requires_grad=False)
            self.learning = last_stages(backbone, self.freedom.last_stages)
            for stage in self.learning:
                stage.requires_grad_(requires_grad=True)

    def logits(self, images: Tensor) -> Tensor:
        """Return (B, K)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_rests):
            embedding = self.backbone(images)
        scores: Tensor = self.head(embedding)
        return scores

    def step(self, batch: LabelledBatch) -> StepResult:
        """Return the loss of one batch; of a mixed one, the mixture of both losses."""
        logits = self.logits(batch.images).float()
        loss = self.objective.loss(logits, batch.target)
        if batch.other is not None:
            other = self.objective.loss(logits, batch.other)
            loss = batch.share * loss + (1 - batch.share) * other
        return StepResult(loss=loss)

    def before_step(self, progress: Progress) -> None:
        """Let the encoder rest for its share of the steps, and what never learns throughout."""
        freedom = self.freedom
        if freedom.last_stages is None and not freedom.frozen_share:
            return
        n_resting = round(freedom.frozen_share * progress.total_steps)
        self.encoder_rests = progress.step < n_resting
        self.backbone.eval()
        for module in self.learning:
            module.train(not self.encoder_rests)

    def rate(self, name: str) -> Rate:
        """Return the rate of a weight: the deeper below the head, the slower."""
        if self.freedom.layer_decay == 1 or not name.startswith("backbone."):
            return Rate()
        below = self.n_stages - self.depth[name.removeprefix("backbone.")]
        return Rate(scale=self.freedom.layer_decay**below)


def depths(backbone: Backbone) -> dict[str, int]:
    """Return the depth of every weight by its name: the place of its stage, 0 at the input.

    A last norm has the depth of the head, which is the number of stages (Bao et al. 2022, BEiT).
    """
    stages = backbone.stages()
    place = {id(weight): i for i, stage in enumerate(stages) for weight in stage.parameters()}
    behind: Iterable[nn.Module] = stages[-1][1:] if isinstance(stages[-1], nn.ModuleList) else []
    for part in behind:
        if all(weight.ndim < 2 for weight in part.parameters()):
            place |= {id(weight): len(stages) for weight in part.parameters()}
    return {name: place.get(id(w), len(stages)) for name, w in backbone.named_parameters()}


def last_stages(backbone: Backbone, n: int) -> list[nn.Module]:
    """Return the last ``n`` stages.

    Raises:
        BackboneError: there are not so many.

    """
    stages = backbone.stages()
    if n > len(stages):
        raise BackboneError(
            f"protocol.last_stages: expected at most {len(stages)}, the stages of this backbone,"
            f" got {n}; use fine_tune to train all of it"
        )
    return stages[-n:]
