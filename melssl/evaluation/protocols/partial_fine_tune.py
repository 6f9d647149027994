"""Partial fine-tuning: the last stages of the encoder and the head are trained, the rest rests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import ClassVar, Literal

import torch
from pydantic import Field

from melssl.backbones.base import BackboneConfig
from melssl.data.cohort import Cohort
from melssl.evaluation.protocols.classifier import Freedom, last_stages
from melssl.evaluation.protocols.tuning import Tuning
from melssl.frame import Frame


class PartialFineTune(Tuning):
    """Train the last ``last_stages`` of the backbone's stages or blocks, and the head.

    What comes before is not changed at all: its weights have no gradient and its batch norms keep
    the statistics of pretraining.
    """

    label: ClassVar[str] = "partial fine-tuning"
    name: Literal["partial_fine_tune"] = "partial_fine_tune"
    last_stages: int = Field(2, ge=1, description="stages or blocks that learn, from the last on")

    def freedom(self) -> Freedom:
        """Return what of the encoder learns."""
        return replace(super().freedom(), last_stages=self.last_stages)

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse more stages than the backbone has."""
        super().check(config, frame, cohort)
        _refuse_beyond(config, frame, self.last_stages)


@cache
def _refuse_beyond(config: BackboneConfig, frame: Frame, n: int) -> None:
    with torch.random.fork_rng(devices=[]):
        last_stages(config.build(frame), n)
