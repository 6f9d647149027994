"""MAE: hide most patches, encode the rest, reconstruct the hidden ones."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal

import torch
from lightly.models.modules.masked_vision_transformer_decoder_timm import (
    MaskedVisionTransformerDecoderTIMM,
)
from lightly.models.modules.masked_vision_transformer_timm import init_weights
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
    with_tokens,
)
from melssl.methods.masking import MaskShape, masks_of_ratio, places
from melssl.methods.patches import patchify, sine_positions, unpatchify
from melssl.settings import Later
from melssl.space import Dimension
from melssl.training.trainable import StepResult


class MaeConfig(MethodConfig):
    """Settings of MAE (He et al. 2021, arXiv 2111.06377)."""

    label: ClassVar[str] = "MAE"
    name: Literal["mae"] = "mae"
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of patches hidden")
    mask_shape: Annotated[MaskShape, Later()] = Field(
        "random", description="single patches, rectangles of them, or grown groups"
    )
    decoder_width: int = Field(64, ge=16, multiple_of=8)
    decoder_depth: int = Field(2, ge=1)
    decoder_heads: int = Field(4, ge=1)
    normalise_target: bool = Field(True, description="per-patch mean 0 and variance 1")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="mask_ratio", low=0.3, high=0.9),
            Dimension(name="mask_shape", choices=("random", "block", "group")),
            Dimension(name="decoder_depth", low=1, high=4, whole=True),
        )


class Mae(Method):
    """Mean squared error over hidden patches.

    ``L = 1/|M| sum_{i in M} || D(E(x_visible))_i - n(x_i) ||^2 / P``, ``n`` the per-patch
    normalisation and P the pixels of a patch (He et al. 2021, section 3).
    """

    Config = MaeConfig
    media = ALL_MEDIA
    needs_tokens = True

    def __init__(self, config: MaeConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        backbone = with_tokens("mae", backbone)
        self.backbone: TokenBackbone = backbone
        self.mask_ratio, self.mask_shape = config.mask_ratio, config.mask_shape
        self.normalise_target = config.normalise_target
        self.narrow = nn.Linear(backbone.width, config.decoder_width)
        self.decoder = _decoder(config, backbone.grid)
        n_values = facts.frame.channels * prod(backbone.patch)
        self.predict = nn.Linear(config.decoder_width, n_values)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view of geometry only: colour is part of what is reconstructed."""
        return (base.replace(jitter=0, grayscale=0, solarise=0, blur=0, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return the reconstruction error of the hidden patches."""
        (images,) = batch.views
        mask, prediction = self._predicted(images, batch)
        hidden = places(mask).to(images.device)
        with full_precision(prediction):
            target = take(self.target(images.float()), hidden)
            error = (take(prediction.float(), hidden) - target).square().mean()
        ratio = torch.tensor(hidden.shape[1] / mask.shape[1])
        return StepResult(loss=error, parts={"mask_ratio": ratio})

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return hidden patches as predicted, with their own mean and deviation put back."""
        (images,) = batch.views
        mask, prediction = self._predicted(images, batch)
        hidden = mask.to(images.device)[..., None]
        patches = patchify(images, self.backbone.patch)
        if self.normalise_target:
            mean, deviation = scale(patches)
            prediction = prediction * deviation + mean
        return Reconstruction(
            shown=self._laid_out(patches.masked_fill(hidden, torch.nan)),
            painted=self._laid_out(torch.where(hidden, prediction, patches)),
            truth=images,
        )

    def target(self, images: Tensor) -> Tensor:
        """Return the patches (B, N, P C) that are to be predicted."""
        patches = patchify(images, self.backbone.patch)
        if not self.normalise_target:
            return patches
        mean, deviation = scale(patches)
        return (patches - mean) / deviation

    def _predicted(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return which patches are hidden (B, N), on the CPU, and what is predicted (B, N, P C)."""
        grid = self.backbone.grid
        drawn = masks_of_ratio(self.mask_shape, batch.n_drawn, grid, self.mask_ratio, batch.rng)
        mask = batch.mine(drawn)
        kept = places(~mask).to(images.device)
        encoded = self.backbone.encode_tokens(images, kept)
        return mask, self.predict(self._decode(encoded, kept))

    def _laid_out(self, patches: Tensor) -> Tensor:
        return unpatchify(patches, self.backbone.grid, self.backbone.patch)

    def _decode(self, encoded: Tensor, kept: Tensor) -> Tensor:
        """Fill the hidden places with the mask token and decode; (B, N, decoder width)."""
        narrow = self.narrow(encoded)
        n_tokens = self.decoder.num_patches
        blank = self.decoder.mask_token.to(narrow.dtype).expand(len(kept), n_tokens, -1)
        places = kept[..., None].expand(-1, -1, narrow.shape[-1])
        patches = blank.scatter(1, places, narrow[:, 1:])
        decoded: Tensor = self.decoder(torch.cat([narrow[:, :1], patches], dim=1))
        return decoded[:, 1:]


def _decoder(config: MaeConfig, grid: tuple[int, ...]) -> MaskedVisionTransformerDecoderTIMM:
    """Return lightly's decoder with positions on a grid of any number of dimensions."""
    decoder = MaskedVisionTransformerDecoderTIMM(
        num_patches=prod(grid),
        embed_dim=config.decoder_width,
        depth=config.decoder_depth,
        num_heads=config.decoder_heads,
        initialize_weights=False,  # which knows squares only
    )
    nn.init.normal_(decoder.mask_token, std=0.02)
    decoder.pos_embed.data[0, 1:] = sine_positions(grid, config.decoder_width)
    decoder.apply(init_weights)
    return decoder


def scale(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (B, N, 1) of every patch."""
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens (B, K, C) at ``places`` (B, K) of ``tokens`` (B, N, C)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
