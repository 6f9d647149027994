"""MoCo v2: a query finds its key among the keys of earlier batches, kept in a queue."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.models.modules.heads import MoCoProjectionHead
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    PairConfig,
    PoolFacts,
    full_precision,
)
from melssl.methods.target import Target, gathered
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult

POOL_PER_QUEUE = 4


class MoCoV2Config(PairConfig):
    """Settings of MoCo v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297).

    The papers keep 65,536 keys and a momentum of .999 for a million images and steps; a queue of
    that size would hold every image of a small pool several times, and call it its own negative.
    """

    label: ClassVar[str] = "MoCo v2"
    name: Literal["moco_v2"] = "moco_v2"
    temperature: float = Field(0.2, ge=0.001, le=10)
    momentum: float = Field(0.99, ge=0, le=1, description="of the key encoder")
    queue_size: int = Field(4096, ge=2, description="keys kept; at most a quarter of the pool")
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="temperature", low=0.05, high=1, log=True),
            Dimension(name="momentum", low=0.9, high=0.999),
        )


class MoCoV2(Method):
    """InfoNCE of a query, its key, and a queue of keys.

    ``L = -log( exp(q k+ / T) / (exp(q k+ / T) + sum_i exp(q k_i / T)) )``, all of unit length, keys
    by the momentum encoder, ``k_i`` the queue (He et al. 2020, eq. 1). The paper shuffles samples
    between devices, so that batch norm does not tell which key belongs to a query; within one
    process that would change no statistic, and nothing is shuffled. Several processes share one
    queue.
    """

    Config = MoCoV2Config
    media = ALL_MEDIA
    queue: Tensor
    oldest: Tensor

    def __init__(self, config: MoCoV2Config, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.temperature, self.momentum = config.temperature, config.momentum
        self.backbone = backbone
        self.projector = MoCoProjectionHead(
            backbone.width, config.hidden_width, config.projection_width
        )
        self.target = Target(self.online)
        size = max(min(config.queue_size, facts.n_samples // POOL_PER_QUEUE), 1)
        self.register_buffer("queue", F.normalize(torch.randn(size, config.projection_width)))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self.chance = 1 / (1 + size)
        self.fresh: Tensor | None = None

    @property
    def online(self) -> nn.Module:
        """The encoder that gradients train."""
        return nn.Sequential(self.backbone, self.projector)

    def step(self, batch: Batch) -> StepResult:
        """Return InfoNCE of one batch; its keys join the queue after the step."""
        asked, shown = batch.views
        query, key = self.projector(self.backbone(asked)), self.target(shown)
        with full_precision(query):
            query, key = F.normalize(query.float()), F.normalize(key.float())
            own = (query * key).sum(dim=1, keepdim=True)
            # a copy, for the queue moves on in place
            scores = torch.cat([own, query @ self.queue.clone().T], dim=1) / self.temperature
            answer = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
            loss = F.cross_entropy(scores, answer)
        self.fresh = gathered(key)[0]
        parts = {
            "accuracy": (scores[:, 0] > scores[:, 1:].amax(dim=1)).float().mean(),
            "queue_size": torch.tensor(float(len(self.queue))),
        }
        return StepResult(loss=loss, parts=parts)

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder; the batch's keys take the place of the oldest."""
        self.target.follow(self.online, self.momentum)
        if self.fresh is not None:
            self.enqueue(self.fresh)
            self.fresh = None

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Put ``keys`` (B, D) over the oldest ones; of more than the queue holds, the last stay."""
        size = len(self.queue)
        keys = keys[-size:]
        places = (self.oldest + torch.arange(len(keys), device=keys.device)) % size
        self.queue.index_copy_(0, places, keys)
        self.oldest.copy_((self.oldest + len(keys)) % size)
