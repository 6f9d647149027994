"""Fine-tuning: the whole encoder and a linear head are trained on the labels of the budget."""

from __future__ import annotations

from typing import ClassVar, Literal

from melssl.evaluation.protocols.tuning import Tuning


class FineTune(Tuning):
    """Train everything; options of the schedule, the loss and the batches are those of tuning."""

    label: ClassVar[str] = "fine-tuning"
    name: Literal["fine_tune"] = "fine_tune"
