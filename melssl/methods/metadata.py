"""Metadata-only arms: no pixel is seen; what they reach, an image must exceed to have told more."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from melssl.backbones.base import Backbone
from melssl.data.cohort import Cohort
from melssl.evaluation.metadata import IMAGES_PER_PATIENT, metadata_columns
from melssl.methods.base import MethodConfig, PoolFacts
from melssl.methods.no_pretext import Untrained


class MetadataSettings(MethodConfig):
    """Which columns of the cohort take the place of an embedding.

    ``clinical`` and ``acquisition`` stand for all columns of the kind, as in ``metadata_columns``.
    """

    columns: tuple[str, ...] = Field(min_length=1)

    def columns_of(self, cohort: Cohort) -> tuple[str, ...]:
        """Return the columns that ``features`` reads.

        Raises:
            CohortError: the cohort lacks one, or names none of the kind.

        """
        return metadata_columns(cohort, self.columns)


class MetadataClinicalConfig(MetadataSettings):
    """What is known of the patient and the lesion without an image."""

    label: ClassVar[str] = "clinical metadata"
    name: Literal["metadata_clinical"] = "metadata_clinical"
    columns: tuple[Literal["clinical"]] = ("clinical",)


class MetadataAllConfig(MetadataSettings):
    """The same, and how the image was taken: what an encoder can learn without the lesion."""

    label: ClassVar[str] = "clinical + acquisition metadata"
    name: Literal["metadata_all"] = "metadata_all"
    columns: tuple[Literal["clinical"], Literal["acquisition"]] = ("clinical", "acquisition")


class MetadataConfig(MetadataSettings):
    """Any columns, by name."""

    label: ClassVar[str] = "chosen metadata"
    name: Literal["metadata"] = "metadata"
    columns: tuple[str, ...] = Field(
        (IMAGES_PER_PATIENT,), min_length=1, description="columns, or clinical or acquisition"
    )


class Metadata(Untrained):
    """Features of the metadata in the place of embeddings; the backbone is not asked."""

    Config: ClassVar[type[MethodConfig]] = MetadataConfig
    sees = "metadata"

    def __init__(self, config: MetadataSettings, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone


class MetadataClinical(Metadata):
    """The clinical columns."""

    Config = MetadataClinicalConfig


class MetadataAll(Metadata):
    """The clinical and the acquisition columns."""

    Config = MetadataAllConfig
