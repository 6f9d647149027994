"""Volume auto-encoder: two damaged views of a crop are both made whole, and made alike."""

from __future__ import annotations

from math import isqrt
from typing import ClassVar, Literal

import torch
from lightly.loss import NTXentLoss
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.views import ViewRecipe
from melssl.errors import BackboneError
from melssl.frame import VOLUMES
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
    several_processes,
)
from melssl.methods.patches import within
from melssl.methods.volumes.painting import PaintingConfig, paint, sample_painting
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class VolumeAutoencoderConfig(PaintingConfig):
    """Settings of the self-supervised ViT auto-encoder of MONAI's tutorial.

    The tutorial's text has a temperature of .005, its script .05; MONAI's own loss is NaN at the
    first.
    """

    label: ClassVar[str] = "volume auto-encoder"
    name: Literal["volume_autoencoder"] = "volume_autoencoder"
    crops: int = Field(2, ge=1, le=8, description="crops of each volume, each with two views")
    temperature: float = Field(0.05, ge=0.001, le=10)
    contrast_weight: float = Field(1.0, ge=0, description="0: reconstruction alone")
    decoder_width: int = Field(16, ge=4, description="channels between its two layers")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="temperature", low=0.005, high=1, log=True),
            Dimension(name="out_share", low=0, high=1),
        )


class VolumeAutoencoder(Method):
    """``L = L1 + w CL L1``: the contrastive term counts as much as is left to reconstruct.

    ``L1 = mean |r_1 - x|`` with ``r_v = D(E(v-th damaged view of x))``, ``CL`` NT-Xent of the
    *reconstructions* ``r_1, r_2`` as vectors over all crops of the batch (MONAI's tutorial "3D
    image pretraining with ViT"; their weight is 1). As published, only the first view's error
    counts.
    """

    Config = VolumeAutoencoderConfig
    media = VOLUMES

    def __init__(
        self, config: VolumeAutoencoderConfig, backbone: Backbone, facts: PoolFacts
    ) -> None:
        super().__init__(config, backbone, facts)
        if backbone.map_width != backbone.width:
            raise BackboneError(
                f"volume_autoencoder trains what leads to the last map ({backbone.map_width}"
                f" channels), but this backbone's embedding ({backbone.width}) passes layers behind"
                " it, which would stay random; use small_vit or small_cnn"
            )
        self.backbone = backbone
        self.config = config
        self.decoder = TwoStepDecoder(
            backbone.map_width,
            config.decoder_width,
            facts.frame.channels,
            backbone.place(facts.frame),
        )
        self.contrast = NTXentLoss(config.temperature, gather_distributed=several_processes())

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return a crop of the volume's own resolution, as often as there are crops."""
        assert isinstance(config, VolumeAutoencoderConfig)
        crop = base.replace(jitter=0, blur=0, erase=0, native_scale=True)
        return (crop,) * config.crops

    def step(self, batch: Batch) -> StepResult:
        """Return the loss of one batch of crops; both views pass the encoder together."""
        crops = torch.cat(batch.views)
        views = self.views(crops, batch)
        made = self.repaired(torch.cat(views))
        with full_precision(made):
            first, second = made.float().flatten(1).chunk(2)
            error = F.l1_loss(first, crops.float().flatten(1))
            contrast = self.contrast(first, second)
            loss = error + self.config.contrast_weight * contrast * error
        parts = {"reconstruction": error.detach(), "contrastive": contrast.detach()}
        return StepResult(loss=loss, parts=parts)

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return the first crop's first view, and what is made of it."""
        crops = torch.cat(batch.views)
        shown = self.views(crops, batch)[0][: len(batch.place)]
        truth = batch.views[0]
        return Reconstruction(shown=shown, painted=self.repaired(shown), truth=truth)

    def views(self, crops: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return two damaged views of the crops (R, C, *sides), all first crops first."""
        n_crops = len(batch.views)
        rows = torch.arange(n_crops * batch.n_drawn).view(n_crops, -1)
        mine = batch.mine(rows, dim=1).flatten()
        first, second = (
            paint(
                crops,
                sample_painting(self.config, len(rows.flatten()), sides, batch.rng).take(mine),
            )
            for sides in (tuple(crops.shape[2:]),) * 2
        )
        return first.images, second.images

    def repaired(self, views: Tensor) -> Tensor:
        """Return what the decoder makes of views (R, C, *sides)."""
        whole: Tensor = self.decoder(self.backbone.features(views)[-1])
        return within(whole, tuple(views.shape[2:]))


class TwoStepDecoder(nn.Module):
    """Two transposed convolutions of non-overlapping blocks, as in MONAI's ``ViTAutoEnc``.

    Together they enlarge each place of a map (B, width, *grid) to ``place`` voxels along each axis,
    first by the factor next above its root: 16 by 4 and 4, 8 by 4 and 2.
    """

    def __init__(self, width: int, middle: int, channels: int, place: tuple[int, ...]) -> None:
        super().__init__()
        (d1, d2), (h1, h2), (w1, w2) = (_factors(side) for side in place)
        self.layers = nn.Sequential(
            nn.ConvTranspose3d(width, middle, (d1, h1, w1), (d1, h1, w1)),
            nn.ConvTranspose3d(middle, channels, (d2, h2, w2), (d2, h2, w2)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return voxels, normalised as the views are."""
        voxels: Tensor = self.layers(features)
        return voxels


def _factors(side: int) -> tuple[int, int]:
    smaller = max(d for d in range(1, isqrt(side) + 1) if side % d == 0)
    return side // smaller, smaller
