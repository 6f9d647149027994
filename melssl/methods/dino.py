"""DINO: from any view, predict what a slowly moving teacher says of another, large view."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from melssl.backbones.base import Backbone
from melssl.frame import ALL_MEDIA
from melssl.methods.base import Batch, PoolFacts, full_precision
from melssl.methods.distillation import Centre, Distillation, DistillationConfig
from melssl.methods.multi_crop import LARGE, between_views
from melssl.methods.target import Target, annealed
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult


class DinoConfig(DistillationConfig):
    """Settings of DINO (Caron et al. 2021, arXiv 2104.14294).

    The paper has 65,536 prototypes for a million images, and for some hundred thousand steps a
    momentum of .996, of the centre .9, and a teacher's temperature that rises from .04 to .07. In
    some hundred steps such a teacher stays the random net that it began as, and .07 leads to one
    that finds all prototypes alike; a teacher that moves faster outruns a centre that follows it.
    """

    label: ClassVar[str] = "DINO"
    name: Literal["dino"] = "dino"
    teacher_temperature: float = Field(0.05, ge=0.001, le=10, description="after the warm-up")
    warmup_temperature: float = Field(0.05, ge=0.001, le=10, description="at its beginning")
    warmup_epochs: float = Field(0, ge=0, description="of the teacher's temperature")
    momentum: float = Field(0.9, ge=0, le=1, description="of the teacher at first; 1 at last")
    centre_momentum: float = Field(0.0, ge=0, lt=1, description="0: the last batch's mean")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="teacher_temperature", low=0.02, high=0.08, log=True),
            Dimension(name="momentum", low=0.8, high=0.999),
        )


class Dino(Distillation):
    """Cross-entropy between the teacher's words on large views and the student's on all others.

    ``L = mean_{g, v != g} -sum_k softmax((t_g - c) / T_t)_k log softmax(s_v / T_s)_k``, ``c`` the
    running mean of ``t`` (Caron et al. 2021, eq. 1 to 4). Centring keeps one prototype from winning
    always, the low temperature keeps the answer from being uniform: neither alone would do.
    """

    Config = DinoConfig
    media = ALL_MEDIA

    def __init__(self, config: DinoConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.config = config
        self.teacher = Target(self.student)
        self.centre = Centre(self.n_prototypes, config.centre_momentum)

    @property
    def student(self) -> nn.Module:
        """What the teacher follows."""
        return nn.Sequential(self.backbone, self.head)

    def step(self, batch: Batch) -> StepResult:
        """Return the cross-entropy over all pairs of views; the centre moves after the step."""
        student = self.head(self.embed(batch.views)).unflatten(0, (len(batch.views), -1))
        teacher = self.teacher(torch.cat(batch.views[:LARGE])).unflatten(0, (LARGE, -1))
        with full_precision(student):
            centred = self.centre(teacher)
            per_pair = self.entropy(centred[:, None], student)
            said = (centred / self.teacher_temperature).softmax(dim=-1)
            parts = {
                "teacher_entropy": torch.special.entr(said).sum(dim=-1).mean(),
                "prototypes_used": torch.special.entr(said.mean(dim=(0, 1))).sum().exp(),
            }
        return StepResult(loss=between_views(per_pair), parts=parts)

    def after_step(self, progress: Progress) -> None:
        """Move the teacher, ever more slowly, and the centre."""
        self.teacher.follow(self.student, annealed(self.config.momentum, 1.0, progress.fraction))
        self.centre.follow()
