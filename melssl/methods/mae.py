"""MAE: hide most patches, encode the rest, reconstruct the hidden ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from lightly.models.modules.masked_vision_transformer_decoder_timm import (
    MaskedVisionTransformerDecoderTIMM,
)
from lightly.models.utils import patchify
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.methods.base import Batch, Method, MethodConfig, PoolFacts, full_precision, with_tokens
from melssl.methods.masking import MaskShape, masks_of_ratio, places
from melssl.settings import Later
from melssl.space import Dimension
from melssl.training.loop import StepResult


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
    needs_tokens = True

    def __init__(self, config: MaeConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        backbone = with_tokens("mae", backbone)
        self.backbone: TokenBackbone = backbone
        self.mask_ratio, self.mask_shape = config.mask_ratio, config.mask_shape
        self.normalise_target = config.normalise_target
        n_tokens = backbone.grid[0] * backbone.grid[1]
        self.narrow = nn.Linear(backbone.width, config.decoder_width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=n_tokens,
            embed_dim=config.decoder_width,
            depth=config.decoder_depth,
            num_heads=config.decoder_heads,
        )
        self.predict = nn.Linear(config.decoder_width, 3 * backbone.patch_px**2)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view of geometry only: colour is part of what is reconstructed."""
        return (base.replace(jitter=0, grayscale=0, solarise=0, blur=0, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return the reconstruction error of the hidden patches."""
        (images,) = batch.views
        grid = self.backbone.grid
        drawn = masks_of_ratio(self.mask_shape, batch.n_drawn, grid, self.mask_ratio, batch.rng)
        mask = batch.mine(drawn)
        kept, hidden = places(~mask).to(images.device), places(mask).to(images.device)
        prediction = self.predict(self._decode(self.backbone.encode_tokens(images, kept), kept))
        with full_precision(prediction):
            target = take(self.target(images.float()), hidden)
            error = (take(prediction.float(), hidden) - target).square().mean()
        ratio = torch.tensor(hidden.shape[1] / mask.shape[1])
        return StepResult(loss=error, parts={"mask_ratio": ratio})

    def target(self, images: Tensor) -> Tensor:
        """Return the patches (B, N, 3 P) that are to be predicted."""
        patches: Tensor = patchify(images, self.backbone.patch_px)
        if not self.normalise_target:
            return patches
        mean = patches.mean(dim=-1, keepdim=True)
        variance = patches.var(dim=-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()

    def _decode(self, encoded: Tensor, kept: Tensor) -> Tensor:
        """Fill the hidden places with the mask token and decode; (B, N, decoder width)."""
        narrow = self.narrow(encoded)
        n_tokens = self.decoder.num_patches
        blank = self.decoder.mask_token.to(narrow.dtype).expand(len(kept), n_tokens, -1)
        places = kept[..., None].expand(-1, -1, narrow.shape[-1])
        patches = blank.scatter(1, places, narrow[:, 1:])
        decoded: Tensor = self.decoder(torch.cat([narrow[:, :1], patches], dim=1))
        return decoded[:, 1:]


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens (B, K, C) at ``places`` (B, K) of ``tokens`` (B, N, C)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
