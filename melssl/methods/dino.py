"""DINO: from any view, predict what a slowly moving teacher says of another, large view."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from melssl.backbones.base import Backbone
from melssl.methods.base import Batch, PoolFacts, full_precision
from melssl.methods.distillation import Centre, PrototypeHead, cross_entropy, warmed
from melssl.methods.multi_crop import LARGE, MultiCrop, MultiCropConfig, between_views, n_prototypes
from melssl.methods.target import Target, annealed
from melssl.training.loop import Progress, StepResult


class DinoConfig(MultiCropConfig):
    """Settings of DINO (Caron et al. 2021, arXiv 2104.14294).

    The paper has 65,536 prototypes for a million images, and for some hundred thousand steps a
    momentum of .996, of the centre .9, and a teacher's temperature that rises from .04 to .07. In
    some hundred steps such a teacher stays the random net that it began as, and .07 leads to one
    that finds all prototypes alike; a teacher that moves faster outruns a centre that follows it.
    """

    label: ClassVar[str] = "DINO"
    name: Literal["dino"] = "dino"
    temperature: float = Field(0.1, ge=0.001, le=10, description="of the student")
    teacher_temperature: float = Field(0.05, ge=0.001, le=10, description="after the warm-up")
    warmup_temperature: float = Field(0.05, ge=0.001, le=10, description="at its beginning")
    warmup_epochs: float = Field(0, ge=0, description="of the teacher's temperature")
    momentum: float = Field(0.9, ge=0, le=1, description="of the teacher at first; 1 at last")
    centre_momentum: float = Field(0.0, ge=0, lt=1, description="0: the last batch's mean")
    prototypes: int = Field(1024, ge=2, description="at most one for four images of the pool")
    frozen_epochs: float = Field(1, ge=0, description="epochs in which the prototypes stay")
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)


class Dino(MultiCrop):
    """Cross-entropy between the teacher's words on large views and the student's on all others.

    ``L = mean_{g, v != g} -sum_k softmax((t_g - c) / T_t)_k log softmax(s_v / T_s)_k``, ``c`` the
    running mean of ``t`` (Caron et al. 2021, eq. 1 to 4). Centring keeps one prototype from winning
    always, the low temperature keeps the answer from being uniform: neither alone would do.
    """

    Config = DinoConfig

    def __init__(self, config: DinoConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.config = config
        n = n_prototypes(config.prototypes, facts)
        self.head = PrototypeHead(backbone.width, config.hidden_width, config.projection_width, n)
        self.teacher = Target(self.student)
        self.centre = Centre(n, config.centre_momentum)
        self.teacher_temperature = config.warmup_temperature

    @property
    def student(self) -> nn.Module:
        """What the teacher follows."""
        return nn.Sequential(self.backbone, self.head)

    def before_step(self, progress: Progress) -> None:
        """Hold the prototypes at first, and raise the teacher's temperature."""
        config = self.config
        self.head.frozen = progress.epoch < config.frozen_epochs
        self.teacher_temperature = warmed(
            config.warmup_temperature,
            config.teacher_temperature,
            config.warmup_epochs,
            progress.epoch,
        )

    def step(self, batch: Batch) -> StepResult:
        """Return the cross-entropy over all pairs of views; the centre moves after the step."""
        student = self.head(self.embed(batch.views)).unflatten(0, (len(batch.views), -1))
        teacher = self.teacher(torch.cat(batch.views[:LARGE])).unflatten(0, (LARGE, -1))
        with full_precision(student):
            centred = self.centre(teacher)
            per_pair = cross_entropy(
                centred[:, None],
                student,
                teacher_temperature=self.teacher_temperature,
                student_temperature=self.config.temperature,
            )
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
