"""What self-distillation is made of: a student of prototypes, a centre, a teacher's words."""

from __future__ import annotations

import torch
import torch.distributed
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.methods.base import PoolFacts, full_precision, several_processes
from melssl.methods.multi_crop import MultiCrop, MultiCropConfig, n_prototypes, unit_prototypes
from melssl.training.trainable import Progress


class DistillationConfig(MultiCropConfig):
    """Settings of a student that learns to say, in prototypes, what its teacher says."""

    temperature: float = Field(0.1, ge=0.001, le=10, description="of the student")
    teacher_temperature: float = Field(0.04, ge=0.001, le=10, description="after the warm-up")
    warmup_temperature: float = Field(0.04, ge=0.001, le=10, description="at its beginning")
    warmup_epochs: float = Field(30, ge=0, description="of the teacher's temperature")
    prototypes: int = Field(1024, ge=2, description="at most one for four images of the pool")
    frozen_epochs: float = Field(1, ge=0, description="epochs in which the prototypes stay")
    projection_width: int = Field(128, ge=8)
    hidden_width: int = Field(512, ge=8)


class Distillation(MultiCrop):
    """A student with its prototypes, and the temperature that its teacher has at a step."""

    def __init__(self, config: DistillationConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self._distillation = config
        self.n_prototypes = n_prototypes(config.prototypes, facts)
        self.head = PrototypeHead(
            backbone.width, config.hidden_width, config.projection_width, self.n_prototypes
        )
        self.teacher_temperature = config.warmup_temperature

    def before_step(self, progress: Progress) -> None:
        """Hold the prototypes at first, and raise the teacher's temperature."""
        config = self._distillation
        self.head.frozen = progress.epoch < config.frozen_epochs
        self.teacher_temperature = warmed(
            config.warmup_temperature,
            config.teacher_temperature,
            config.warmup_epochs,
            progress.epoch,
        )

    def entropy(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Return the cross-entropy of centred scores (..., K) and the student's, shape (...)."""
        return cross_entropy(
            teacher,
            student,
            teacher_temperature=self.teacher_temperature,
            student_temperature=self._distillation.temperature,
        )


class PrototypeHead(nn.Module):
    """Cosines between projected features and K prototypes, (..., width) to (..., K).

    Three layers with GELU, a bottleneck of length one, prototypes of length one (Caron et al. 2021,
    section 3.1; their weight norm with its length held at 1). The hidden layers have batch norm,
    which the paper leaves out of ViTs: an untrained net says nearly the same of all images, and
    without it a few hundred steps end where they began, in a teacher that finds all prototypes
    alike. The head can be deep-copied. While ``frozen``, its prototypes stay.
    """

    def __init__(
        self, width: int, hidden_width: int, bottleneck_width: int, n_prototypes: int
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(
            *_hidden(width, hidden_width),
            *_hidden(hidden_width, hidden_width),
            nn.Linear(hidden_width, bottleneck_width),
        )
        self.prototypes = nn.Parameter(torch.randn(n_prototypes, bottleneck_width))
        self.frozen = False

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines in full precision: at bf16's eight bits a temperature of .04 is noise.

        Features may have any leading dimensions, of two rows or more in all.
        """
        projected = self.project(features.flatten(0, -2))
        with full_precision(projected):
            direction = F.normalize(projected.to(self.prototypes.dtype), dim=-1)
            scores = F.linear(direction, unit_prototypes(self.prototypes, frozen=self.frozen))
        return scores.view(*features.shape[:-1], -1)


def _hidden(before: int, width: int) -> list[nn.Module]:
    return [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.GELU()]


class Centre(nn.Module):
    """A running mean of the teacher's scores, taken off them so that no prototype wins everywhere.

    ``c <- m c + (1 - m) mean(t)``, over all processes (Caron et al. 2021, equation 4); it begins
    with the mean of the first scores instead of zero and m rises to ``momentum`` by 0, 1/2, 2/3...:
    a short training has no steps to lose. Call it once a step with all scores, and ``follow`` in
    ``after_step``.
    """

    value: Tensor
    steps: Tensor

    def __init__(self, n_prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(n_prototypes))
        self.register_buffer("steps", torch.zeros(()))
        self._seen: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def forward(self, scores: Tensor) -> Tensor:
        """Return scores (..., K) without the centre, and remember them for ``follow``."""
        rows = scores.flatten(0, -2)
        total, count = rows.sum(dim=0), rows.new_tensor(float(len(rows)))
        if several_processes():
            torch.distributed.all_reduce(total)
            torch.distributed.all_reduce(count)
        self._seen = total, count
        return scores - torch.where(self.steps > 0, self.value, total / count.clamp(min=1))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the centre towards the mean of the scores last seen; without any it stays."""
        if self._seen is None:
            return
        total, count = self._seen
        momentum = (self.steps / (self.steps + 1)).clamp(max=self.momentum)
        mean = (total / count.clamp(min=1)).to(self.value.dtype)
        self.value.lerp_(mean, (1 - momentum) * (count > 0))
        self.steps += count > 0
        self._seen = None


def cross_entropy(
    teacher: Tensor, student: Tensor, *, teacher_temperature: float, student_temperature: float
) -> Tensor:
    """Return ``-sum_k softmax(t / T_t)_k log softmax(s / T_s)_k`` of scores (..., K), shape (...).

    ``teacher`` comes centred and gets no gradient (Caron et al. 2021, equations 1 and 2).
    """
    aim = (teacher.detach() / teacher_temperature).softmax(dim=-1)
    return -(aim * (student / student_temperature).log_softmax(dim=-1)).sum(dim=-1)


def warmed(start: float, end: float, warmup_epochs: float, epoch: float) -> float:
    """Return a teacher's temperature: linear from ``start`` to ``end``, then constant."""
    if epoch >= warmup_epochs:
        return end
    return start + (end - start) * epoch / warmup_epochs
