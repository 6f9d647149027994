"""Exemplar: every image is a class of its own, whatever happens to it."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.methods.answers import EVEN, share_nearer
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PairConfig,
    PoolFacts,
    full_precision,
)
from melssl.space import Dimension
from melssl.training.trainable import StepResult

NO_CLASS = -1


class ExemplarConfig(PairConfig):
    """Settings of exemplar training (Dosovitskiy et al. 2014, arXiv 1406.6909).

    With ``positives="patient"`` every patient is a class instead.
    """

    label: ClassVar[str] = "exemplar"
    name: Literal["exemplar"] = "exemplar"
    loss: Literal["triplet", "softmax"] = "triplet"
    copies: int = Field(2, ge=2, le=16, description="views of each image in a batch")
    n_classes: int = Field(
        8192, ge=2, description="images that become classes at most (softmax), drawn at random"
    )
    margin: float = Field(0.5, gt=0, le=4, description="of squared distances in 0..4 (triplet)")
    projection_width: int = Field(128, ge=8, description="of the triplets' embedding")
    hidden_width: int = Field(256, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies: what the chosen loss reads."""
        copies = Dimension(name="copies", low=2, high=8, whole=True)
        if self.loss == "triplet":
            return (copies, Dimension(name="margin", low=0.1, high=2, log=True))
        return (copies, Dimension(name="n_classes", low=64, high=8192, log=True, whole=True))


class Exemplar(Method):
    """Triplets, or a softmax over surrogate classes.

    ``triplet``: ``L = mean max(0, d(a, p) - d(a, n) + margin)`` over all copies a, p of an image,
    ``d`` the squared distance of unit vectors and n the semi-hard negative (Schroff et al. 2015,
    section 3.2; Kolesnikov et al. 2019). ``softmax``: ``L = -mean_i log F_c(i)(T x_i)``, one class
    per image (Dosovitskiy et al. 2014, eq. 1); of a pool with more images than ``n_classes`` the
    others count for nothing.
    """

    Config = ExemplarConfig
    class_of: Tensor

    def __init__(self, config: ExemplarConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.by_patient = config.positives == "patient"
        width = config.projection_width
        if config.loss == "softmax":
            members = facts.n_patients if self.by_patient else facts.n_samples
            width = min(config.n_classes, members)
            self.register_buffer("class_of", drawn_classes(members, width))
        self.chance = 1 / width if config.loss == "softmax" else EVEN
        self.head = nn.Sequential(
            nn.Linear(backbone.width, config.hidden_width),
            nn.ReLU(),
            nn.Linear(config.hidden_width, width),
        )

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe, once for each copy."""
        assert isinstance(config, ExemplarConfig)
        return (base,) * config.copies

    def step(self, batch: Batch) -> StepResult:
        """Return the loss of one batch; all copies pass the encoder together."""
        outputs = self.head(self.backbone(torch.cat(batch.views)))
        who = batch.patient if self.by_patient else batch.place
        who = who.to(outputs.device).repeat(len(batch.views))
        with full_precision(outputs):
            if self.config.loss == "triplet":
                return self._triplets(F.normalize(outputs.float(), dim=1), who)
            return self._classes(outputs.float(), self.class_of[who])

    def _classes(self, scores: Tensor, classes: Tensor) -> StepResult:
        n = (classes != NO_CLASS).sum().clamp(min=1)
        loss = F.cross_entropy(scores, classes, reduction="sum", ignore_index=NO_CLASS) / n
        right = (scores.detach().argmax(dim=1) == classes).sum() / n
        return StepResult(loss=loss, parts={"accuracy": right})

    def _triplets(self, embedded: Tensor, who: Tensor) -> StepResult:
        n, copies = len(embedded), self.config.copies
        distance = 2 - 2 * embedded @ embedded.T
        differs = who[:, None] != who
        losses, right = [], []
        for shift in range(1, copies):
            other = torch.arange(n, device=embedded.device).roll(shift * (n // copies))
            near = distance.take_along_dim(other[:, None], dim=1)[:, 0]
            losses.append(semi_hard(near, distance, differs, self.config.margin))
            right.append(share_nearer(-near, -distance, differs))
        parts = {"accuracy": torch.stack(right).mean()}
        return StepResult(loss=torch.stack(losses).mean(), parts=parts)


def drawn_classes(n_members: int, n_classes: int) -> Tensor:
    """Return the class (N,) of each member of the pool, -1 for those that got none.

    Members are left out rather than put together: two unlike images in one class would have to be
    learned by heart, a smaller pool is only a smaller pool.
    """
    classes = torch.full((n_members,), NO_CLASS)
    classes[torch.randperm(n_members)[:n_classes]] = torch.arange(n_classes)
    return classes


def semi_hard(near: Tensor, distance: Tensor, differs: Tensor, margin: float) -> Tensor:
    """Return the mean triplet loss of anchors with positives at ``near`` (M,).

    The negative is the nearest of ``distance`` (M, M) that ``differs`` and lies beyond the
    positive, or the farthest where none does; an anchor without any counts as solved.
    """
    beyond = differs & (distance > near[:, None])
    nearest = distance.masked_fill(~beyond, torch.inf).amin(dim=1)
    farthest = distance.masked_fill(~differs, -torch.inf).amax(dim=1)
    negative = torch.where(beyond.any(dim=1), nearest, farthest)
    loss = (near - negative + margin).clamp(min=0)
    return torch.where(differs.any(dim=1), loss, 0).mean()
