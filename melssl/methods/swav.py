"""SwAV: predict from one view to which prototypes another view of the image was assigned."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.models.modules.heads import SwaVProjectionHead
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.frame import ALL_MEDIA
from melssl.methods.base import Batch, PoolFacts, full_precision
from melssl.methods.multi_crop import (
    LARGE,
    MultiCrop,
    MultiCropConfig,
    between_views,
    n_prototypes,
    unit_prototypes,
)
from melssl.methods.target import gathered
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult

POOL_PER_QUEUE = 4


class SwavConfig(MultiCropConfig):
    """Settings of SwAV (Caron et al. 2020, arXiv 2006.09882).

    The paper has 3,000 prototypes for a million images, and at batches of 256 a queue of 3,840 from
    the 15th of 400 epochs on: a batch smaller than the prototypes cannot be dealt among them.
    """

    label: ClassVar[str] = "SwAV"
    name: Literal["swav"] = "swav"
    temperature: float = Field(0.1, ge=0.001, le=10)
    prototypes: int = Field(300, ge=2, description="at most one for four images of the pool")
    epsilon: float = Field(0.05, ge=0.001, le=10, description="softness of the assignment")
    sinkhorn_iterations: int = Field(3, ge=1)
    queue_size: int = Field(
        1024, ge=0, description="earlier features that are dealt too; at most a quarter of the pool"
    )
    queue_epoch: float = Field(1, ge=1, description="epoch from which on the queue is used")
    frozen_epochs: float = Field(1, ge=0, description="epochs in which the prototypes stay")
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="temperature", low=0.05, high=0.5, log=True),
            Dimension(name="epsilon", low=0.01, high=0.2, log=True),
            Dimension(name="prototypes", low=30, high=1000, log=True, whole=True),
        )


class Swav(MultiCrop):
    """Cross-entropy between the codes of one view and the prediction from another.

    ``L = mean_{i, v != i} -sum_k q_ik log softmax(z_v c / T)_k``, ``z`` and the prototypes ``c`` of
    unit length, ``q`` Sinkhorn's codes of the two large views, which get no gradient (Caron et al.
    2020, eq. 2, 3 and 6). Every prototype must be used alike, so all images in one is no answer.
    """

    Config = SwavConfig
    media = ALL_MEDIA
    queue: Tensor

    def __init__(self, config: SwavConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.config = config
        width = config.projection_width
        self.head = SwaVProjectionHead(backbone.width, config.hidden_width, width)
        n = n_prototypes(config.prototypes, facts)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(n, width), dim=1))
        queued = min(config.queue_size, facts.n_samples // POOL_PER_QUEUE)
        self.register_buffer("queue", torch.zeros(LARGE, queued, width))
        self.frozen = self.queue_full = False
        self.fresh: Tensor | None = None

    def before_step(self, progress: Progress) -> None:
        """Hold the prototypes at first; after an epoch the queue, a quarter of it, is full."""
        self.frozen = progress.epoch < self.config.frozen_epochs
        self.queue_full = progress.epoch >= self.config.queue_epoch

    def step(self, batch: Batch) -> StepResult:
        """Return the swapped prediction of one batch; its features join the queue after it."""
        projected = self.head(self.embed(batch.views))
        with full_precision(projected):
            unit = F.normalize(projected.float(), dim=1)
            unit = unit.view(len(batch.views), -1, unit.shape[1])
            cosines = unit @ unit_prototypes(self.prototypes, frozen=self.frozen).T
            codes = self.codes(unit[:LARGE].detach())
            predicted = (cosines / self.config.temperature).log_softmax(dim=-1)
            loss = between_views(-(codes[:, None] * predicted).sum(dim=-1))
            used = torch.special.entr(predicted.detach().exp().mean(dim=(0, 1))).sum().exp()
        return StepResult(loss=loss, parts={"prototypes_used": used})

    @torch.no_grad()
    def codes(self, unit: Tensor) -> Tensor:
        """Return the codes (2, B, K) of large views (2, B, D), dealt with those of all processes.

        The queue is dealt with them once it is full; what it holds is not answered for.
        """
        prototypes = unit_prototypes(self.prototypes, frozen=self.frozen)
        fresh, codes = [], []
        for view, earlier in zip(unit, self.queue, strict=True):
            rows, start = gathered(view)
            fresh.append(rows)
            dealt = torch.cat([rows, earlier]) if self.queue_full else rows
            every = sinkhorn(
                dealt @ prototypes.T / self.config.epsilon, self.config.sinkhorn_iterations
            )
            codes.append(every[start : start + len(view)])
        self.fresh = torch.stack(fresh)
        return torch.stack(codes)

    def after_step(self, progress: Progress) -> None:
        """Put the batch's features before the earlier ones, of which the oldest drop out."""
        if self.fresh is not None:
            moved = torch.cat([self.fresh, self.queue], dim=1)
            self.queue.copy_(moved[:, : self.queue.shape[1]])
            self.fresh = None


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """Return codes (N, K) of ``scores`` (N, K), cosines over epsilon: each row sums to 1.

    ``exp(scores)`` with prototypes scaled to equal totals and then samples to 1, over and over
    (Caron et al. 2020, eq. 5; Cuturi 2013). In logarithms, so that no epsilon is too small.
    """
    for _ in range(iterations):
        scores = scores - scores.logsumexp(dim=0, keepdim=True)
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
    return scores.exp()
