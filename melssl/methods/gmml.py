"""GMML: groups of pixels are corrupted, wherever they fall, and recovered from what is around."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.errors import BackboneError
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
)
from melssl.methods.corruption import Corrupted, CorruptionConfig, corrupt, sample_corruption
from melssl.methods.pixel_decoder import PixelDecoder, hidden_l1
from melssl.training.trainable import StepResult

CELLS = 8  # to a side, where a net without patches is asked for blocks or single cells


class GmmlConfig(CorruptionConfig):
    """Settings of GMML (Atito, Awais and Kittler 2022, arXiv 2205.14986).

    The paper's decoder is as wide as its ViT; it reads blocks 6, 8, 10 and 12 of 12, ours the last.
    """

    label: ClassVar[str] = "GMML"
    name: Literal["gmml"] = "gmml"
    hidden_width: int = Field(256, ge=8, description="of the decoder")
    decoder_depth: int = Field(3, ge=1, description="layers of the decoder, at every place alike")


class Gmml(Method):
    """Mean absolute error over corrupted pixels.

    ``L = 1/(3 |H|) sum_{p in H} | D(E(c(x)))_p - x_p |_1``: ``c`` corrupts the pixels H, the
    encoder E sees all places, D is a light decoder (Atito et al. 2022, section 3). A net without
    tokens is read at its last map.
    """

    Config = GmmlConfig

    def __init__(self, config: GmmlConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        if backbone.map_width != backbone.width:
            raise BackboneError(
                f"gmml trains what leads to the last map ({backbone.map_width} channels), but this "
                f"backbone's embedding ({backbone.width}) passes layers behind it, which would stay"
                " random; use small_vit, vit, small_cnn, or a timm ResNet such as resnet18"
            )
        self.backbone = backbone
        self.config = config
        scale = backbone.place_px(facts.image_px)
        self.decoder = PixelDecoder(
            backbone.map_width, config.hidden_width, config.decoder_depth, scale
        )
        tokens = isinstance(backbone, TokenBackbone)
        self.cell_px = scale if tokens else max(facts.image_px // CELLS, 1)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view whose pixels are worth recovering: sharp, in colour, whole."""
        return (base.replace(grayscale=0, solarise=0, blur=0, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return the error of what was corrupted."""
        (images,) = batch.views
        shown, prediction = self._predicted(images, batch)
        with full_precision(prediction):
            loss = hidden_l1(prediction.float(), images.float(), shown.hidden)
        return StepResult(loss=loss, parts={"mask_ratio": shown.ratio})

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return corrupted pixels as predicted."""
        (images,) = batch.views
        shown, prediction = self._predicted(images, batch)
        painted = torch.where(shown.hidden[:, None], prediction, images)
        return Reconstruction(shown=shown.images, painted=painted, truth=images)

    def _predicted(self, images: Tensor, batch: Batch) -> tuple[Corrupted, Tensor]:
        side = images.shape[-1]
        params = sample_corruption(self.config, batch.n_drawn, side, self.cell_px, batch.rng)
        shown = corrupt(images, params.of(batch))
        prediction: Tensor = self.decoder(self.backbone.features(shown.images)[-1])
        return shown, prediction[..., :side, :side]  # a net may round its last map up
