"""TrainSpec: optimiser, schedule and length of one training; learning rate as a pure function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from lightly.utils.lars import LARS
from pydantic import Field, model_validator
from torch import nn

from melssl.errors import SpecError
from melssl.settings import Later, Settings
from melssl.space import Dimension

LR_REFERENCE_BATCH = 256
SEARCHED_LR = 8  # a search looks so many times below and above a rate


class TrainSpec(Settings):
    """How a module is trained. Defaults suit a small backbone on some thousand images."""

    epochs: int = Field(20, ge=1)
    min_steps: int = Field(1, ge=1, description="trained at least so long, however few images")
    batch_size: int = Field(128, ge=2)
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = Field(1e-3, gt=0, description="for a batch of 256; scaled linearly")
    weight_decay: float = Field(1e-4, ge=0, description="on matrices and kernels only")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD and LARS")
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["cosine", "stable_decay", "constant"] = "cosine"
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of steps of linear warm-up")
    warmup_epochs: Annotated[float | None, Later()] = Field(
        None, ge=0, description="length of warm-up, however long the training; None: warmup_share"
    )
    decay_share: float = Field(0.2, gt=0, le=1, description="last share that stable_decay decays")
    clip_norm: float | None = Field(None, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    ema_decay: float | None = Field(None, gt=0, lt=1, description="average the weights")

    @model_validator(mode="after")
    def _warmup_before_decay(self) -> TrainSpec:
        by_share = self.schedule == "stable_decay" and self.warmup_epochs is None
        if by_share and self.warmup_share + self.decay_share > 1:
            raise ValueError("warmup_share + decay_share must not pass 1")
        return self

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies: the learning rate around this one, and the weight decay."""
        lr = Dimension(name="lr", low=self.lr / SEARCHED_LR, high=self.lr * SEARCHED_LR, log=True)
        return (lr, Dimension(name="weight_decay", low=1e-6, high=1e-1, log=True))

    def steps(self, n_samples: int) -> StepPlan:
        """Return the steps over ``n_samples``; a last incomplete batch is dropped.

        Raises:
            SpecError: a warm-up given in epochs leaves no room for what follows it.

        """
        batch = min(self.batch_size, n_samples)
        per_epoch = max(n_samples // batch, 1)
        total = max(self.epochs * per_epoch, self.min_steps)
        warmup = self.warmup_steps(total, per_epoch)
        room = total if self.schedule == "cosine" else self.anneals_from(total)
        if self.warmup_epochs is not None and warmup > room:
            raise SpecError(
                f"warmup_epochs={self.warmup_epochs:g}: {warmup} steps of warm-up do not fit before"
                f" step {room} of {total}, where the decay begins or the training ends;"
                " train longer, or set fewer warmup_epochs"
            )
        return StepPlan(batch_size=batch, per_epoch=per_epoch, total=total)

    @property
    def peak_lr(self) -> float:
        """Learning rate at the end of warm-up, for this batch size."""
        return self.lr * self.batch_size / LR_REFERENCE_BATCH

    def anneals_from(self, total: int) -> int:
        """Return the step from which on a schedule of ``total`` steps depends on its length."""
        if self.schedule == "cosine":
            return 0
        return total - round(self.decay_share * total) if self.schedule == "stable_decay" else total

    def warmup_steps(self, total: int, per_epoch: int) -> int:
        """Return the steps of warm-up of a training of ``total`` steps."""
        if self.warmup_epochs is None:
            return round(self.warmup_share * total)
        return round(self.warmup_epochs * per_epoch)

    @property
    def shares_trunk(self) -> bool:
        """Whether trainings of all lengths are one and the same until their decay begins."""
        fixed = self.warmup_epochs is not None or self.warmup_share == 0
        return self.schedule == "stable_decay" and fixed

    def lr_at(self, step: int, total: int, per_epoch: int = 1) -> float:
        """Return the learning rate of ``step`` in 0..total-1.

        Warm-up rises linearly to the base rate; then cosine to zero (Loshchilov and Hutter 2017),
        or constant with a last decay ``1 - sqrt(x)`` (Hägele et al. 2024).
        """
        base = self.peak_lr
        warmup = self.warmup_steps(total, per_epoch)
        if step < warmup:
            return base * (step + 1) / warmup
        if self.schedule == "constant":
            return base
        if self.schedule == "cosine":
            done = (step - warmup) / max(total - warmup, 1)
            return base * 0.5 * (1 + math.cos(math.pi * done))
        start = self.anneals_from(total)
        return base * (1 - math.sqrt(max(step - start, 0) / max(total - start, 1)))


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """Batches of ``batch_size``, ``per_epoch`` to an epoch, ``total`` in all."""

    batch_size: int
    per_epoch: int
    total: int


@dataclass(frozen=True)
class Rate:
    """A weight's learning rate: ``scale`` times the schedule's, or times its peak throughout."""

    scale: float = 1.0
    scheduled: bool = True

    def at(self, scheduled: float, peak: float) -> float:
        """Return the rate where the schedule gives ``scheduled``."""
        return self.scale * (scheduled if self.scheduled else peak)


def build_optimizer(
    module: nn.Module, spec: TrainSpec, rate: Callable[[str], Rate] = lambda name: Rate()
) -> torch.optim.Optimizer:
    """Return the optimiser over trainable weights; vectors and embeddings are not decayed.

    Weights of one ``rate(name)`` share a group, which holds it under ``rate``.
    """
    kinds: dict[tuple[Rate, bool], list[nn.Parameter]] = {}
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            plain = weight.ndim < 2 or name.endswith(("pos_embed", "_token"))
            kinds.setdefault((rate(name), plain), []).append(weight)
    groups: list[dict[str, Any]] = [
        {"params": weights, "rate": kind} | ({"weight_decay": 0.0} if plain else {})
        for (kind, plain), weights in sorted(kinds.items(), key=lambda item: item[0][1])
    ]
    lr, decay = spec.lr, spec.weight_decay
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=spec.betas, weight_decay=decay)
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=spec.momentum, weight_decay=decay)
    lars: torch.optim.Optimizer = LARS(groups, lr=lr, momentum=spec.momentum, weight_decay=decay)
    return lars
