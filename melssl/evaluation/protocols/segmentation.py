"""Segmentation: encoder and decoder learn the masks of the budget, and draw those of the test."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.data.cohort import Cohort
from melssl.data.images import Images
from melssl.errors import BackboneError, CohortError
from melssl.evaluation.protocols.base import Evidence, Judges, Protocol, Reads, Segmented
from melssl.evaluation.segmenting.crops import CropFeed, CropRecipe, Labels
from melssl.evaluation.segmenting.decoders import check_decodable, decoder_for
from melssl.evaluation.segmenting.segmenter import Segmenter, labels_of
from melssl.frame import Frame
from melssl.seeding import Seed
from melssl.space import Dimension
from melssl.training.loop import fit
from melssl.training.optim import TrainSpec


class Segmentation(Protocol):
    """Train on crops on a fixed schedule, the last step counts: no label pays for choosing.

    The encoder is the pretrained backbone, whole; above it stands a decoder with random weights,
    UNETR's for patch tokens, a U-Net's for maps. Crops are as large as what the backbone sees
    (``image_px``, ``depth``); the test volumes, as large as what is stored (``store_px``), are seen
    through a window of that size. Needs the extra ``volumes``.
    """

    label: ClassVar[str] = "segmentation"
    reads: ClassVar[Reads] = "weights"
    judges: ClassVar[Judges] = "masks"
    name: Literal["segmentation"] = "segmentation"
    threshold_folds: int = Field(0, ge=0, le=0, description="masks have no threshold")
    training: TrainSpec = TrainSpec(
        epochs=1, min_steps=600, batch_size=8, lr=0.032, weight_decay=1e-5
    )
    crops: CropRecipe = CropRecipe()
    crops_per_volume: int = Field(4, ge=1, description="in an epoch")
    decoder_width: int = Field(16, ge=4, description="channels at full resolution")
    frozen_share: float = Field(
        0.0, ge=0, lt=1, description="share of the steps, the first, in which the encoder rests"
    )
    overlap: float = Field(0.25, ge=0, lt=1, description="of neighbouring windows, share of a side")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies: rate and decay, and how long the encoder rests."""
        own = (dimension.below("training") for dimension in self.training.space())
        return (*own, Dimension(name="frozen_share", low=0, high=0.5))

    def training_spec(self) -> TrainSpec:
        """Return the schedule of tuning."""
        return self.training

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse a cohort without masks, a view without depth, and an encoder no decoder suits."""
        _check_masks(cohort)
        if frame.depth is None:
            raise BackboneError(
                "protocol=segmentation: expected volumes, got images; choose a cohort of volumes"
            )
        with torch.random.fork_rng(devices=[]):
            check_decodable(config.build(frame), frame)

    def segmenter(
        self, backbone: Backbone, frame: Frame, n_structures: int, seed: Seed
    ) -> Segmenter:
        """Return an encoder with a decoder above it, whose weights the seed draws."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed.value)
            decoder = decoder_for(backbone, frame, 1 + n_structures, self.decoder_width)
        return Segmenter(backbone, decoder, self.frozen_share)

    def feed(self, images: Images, masks: Labels, rows: np.ndarray, frame: Frame) -> CropFeed:
        """Return the crops of the volumes at ``rows`` (n,), which have masks."""
        return CropFeed(
            images=images,
            masks=masks,
            rows=rows,
            recipe=self.crops,
            sides=frame.sides,
            per_volume=self.crops_per_volume,
        )

    def judge(self, evidence: Evidence) -> Segmented:
        """Train on the budget, label every voxel of the test rows."""
        assert evidence.masks is not None, "segmentation needs the masks of the budget"
        sides, n_structures = evidence.frame.sides, len(evidence.structures)
        seed = evidence.seed.child("head")
        model = self.segmenter(evidence.backbone(), evidence.frame, n_structures, seed)
        log = fit(
            model,
            self.feed(evidence.images, evidence.masks, evidence.train, evidence.frame),
            self.training,
            evidence.seed.child("segment"),
            evidence.rank,
            state_file=evidence.state_file,
            checkpoint_seconds=evidence.checkpoint_seconds,
            listen=evidence.listen,
        )
        device = evidence.rank.device
        drawn = labels_of(model, evidence.images, evidence.test, sides, self.overlap, device)
        fresh = tuple(name for name in model.state_dict() if not name.startswith("backbone."))
        return Segmented(labels=tuple(drawn), log=log, fresh=fresh)


def _check_masks(cohort: Cohort) -> None:
    if not cohort.structures:
        raise CohortError(
            f"protocol=segmentation: expected a cohort with masks, and {cohort.name} has none;"
            " name a column of masks and the structures, or use another protocol"
        )
    rows = cohort.labelled
    bare = rows.loc[rows["mask"].fillna("") == "", "sample_id"]
    if len(bare):
        raise CohortError(
            f"protocol=segmentation: expected a mask for every labelled volume, and {len(bare)} of"
            f" {len(rows)} have none, for example {bare.iloc[0]}; leave their labels out"
        )
