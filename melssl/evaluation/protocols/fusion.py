"""Fusion: the linear probe on embedding and clinical metadata together."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from melssl.backbones.base import BackboneConfig
from melssl.data.cohort import Cohort
from melssl.evaluation.metadata import CLINICAL, metadata_columns
from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.probe import Probe
from melssl.frame import Frame


class Fusion(Probe):
    """Logistic regression on the embedding beside features of the metadata, each with its prior.

    Each of the two has the prior that it has alone, whatever their widths: without images the
    prediction is that of the metadata arm of these columns, without metadata that of the linear
    probe. What an image adds to the metadata is the difference to that arm. Only clinical columns
    are read by default; columns that tell how the picture was taken must be named.
    """

    label: ClassVar[str] = "fusion with metadata"
    name: Literal["fusion"] = "fusion"
    columns: tuple[str, ...] = Field(
        (CLINICAL,), min_length=1, description="columns, or clinical or acquisition"
    )

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse columns that the cohort does not have."""
        metadata_columns(cohort, self.columns)

    def blocks(self, evidence: Evidence) -> tuple[np.ndarray, ...]:
        """Return the embeddings and the features of the columns."""
        assert evidence.embeddings is not None
        return evidence.embeddings, evidence.metadata_of(self.columns)
