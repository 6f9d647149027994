"""Image and metadata: which clinical record belongs to which image?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.utils.dist import gather
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.errors import TrainingError
from melssl.frame import ALL_MEDIA
from melssl.methods.answers import EVEN, share_nearer
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    full_precision,
    several_processes,
)
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class ImageMetadataConfig(MethodConfig):
    """Settings of contrastive image and metadata (as CLIP, Radford et al. 2021, 2103.00020)."""

    label: ClassVar[str] = "image + metadata"
    name: Literal["image_metadata"] = "image_metadata"
    temperature: float = Field(0.1, ge=0.001, le=10)
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(256, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (Dimension(name="temperature", low=0.03, high=1, log=True),)


class ImageMetadata(Method):
    """Symmetric InfoNCE between images and clinical records, in which equal records are one.

    ``L = (KL(T || softmax_j(s_ij / t)) + KL(T || softmax_j(s_ji / t))) / 2``, mean over i, with
    cosine ``s`` of image i and record j, and ``T_ij = 1 / n_i`` over the ``n_i`` records of the
    batch that equal record i. Without doubles this is Radford et al. 2021, section 2.3; with
    them the targets of Khosla et al. 2020, eq. 2, less their entropy, so that 0 can be reached.
    """

    Config = ImageMetadataConfig
    media = ALL_MEDIA
    reads_metadata = True
    chance = EVEN

    def __init__(self, config: ImageMetadataConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        if facts.metadata_width < 1:
            raise TrainingError(
                "image_metadata: expected clinical columns in the pool, got none; mark them in the"
                " source, or choose a method of images alone"
            )
        self.backbone = backbone
        self.temperature = config.temperature
        self.image_head = _head(backbone.width, config)
        self.record_head = _head(facts.metadata_width, config)
        self.several = several_processes()

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe once."""
        return (base,)

    def step(self, batch: Batch) -> StepResult:
        """Return symmetric InfoNCE of one batch; every process asks for its own rows."""
        (images,), records = batch.views, batch.metadata
        if records is None:
            raise TrainingError("image_metadata: expected metadata with the batch, got none")
        seen, told = self.image_head(self.backbone(images)), self.record_head(records)
        with full_precision(seen):
            seen, told = (F.normalize(x.float(), dim=1) for x in (seen, told))
            same = equal_rows(records, self._everyone(records))
            by_image = seen @ self._everyone(told).T
            by_record = told @ self._everyone(seen).T
            losses = [info_nce(s / self.temperature, same) for s in (by_image, by_record)]
            own = (seen * told).sum(dim=1)
            right = share_nearer(own, by_image, ~same)
        return StepResult(loss=torch.stack(losses).mean(), parts={"accuracy": right})

    def _everyone(self, rows: Tensor) -> Tensor:
        return torch.cat(gather(rows)) if self.several else rows


def equal_rows(rows: Tensor, all_rows: Tensor) -> Tensor:
    """Return (B, N) bool: which of ``all_rows`` (N, F) hold the same as each of ``rows`` (B, F)."""
    return (rows[:, None] == all_rows).all(dim=2)


def info_nce(scores: Tensor, positive: Tensor) -> Tensor:
    """Return the mean divergence of ``softmax(scores)`` (B, N) from an even share of positives."""
    target = positive / positive.sum(dim=1, keepdim=True)
    return F.kl_div(scores.log_softmax(dim=1), target, reduction="batchmean")


def _head(width: int, config: ImageMetadataConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, config.hidden_width),
        nn.ReLU(),
        nn.Linear(config.hidden_width, config.projection_width),
    )
