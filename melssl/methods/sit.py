"""SiT as of April 2021: reconstruct, tell the rotation, and know the image again, all at once."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PairConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
    several_processes,
    with_tokens,
)
from melssl.methods.corruption import CorruptionConfig, corrupt, sample_corruption
from melssl.methods.pixel_decoder import PixelDecoder, as_map
from melssl.methods.rotation import N_TURNS
from melssl.space import Dimension
from melssl.training.optim import Rate
from melssl.training.trainable import StepResult


class SitConfig(CorruptionConfig, PairConfig):
    """Settings of SiT's first form (Atito, Awais and Kittler 2021, arXiv 2104.03602, version 1)."""

    label: ClassVar[str] = "SiT"
    name: Literal["sit"] = "sit"
    mask_ratio: float = Field(0.7, gt=0, le=0.95, description="as GMML's")
    noise_share: float = Field(0.5, ge=0, le=1)
    alien_share: float = Field(0.5, ge=0, le=1)
    temperature: float = Field(0.5, ge=0.001, le=10)
    projection_width: int = Field(256, ge=8)
    hidden_width: int = Field(256, ge=8, description="of the projector and of the decoder")
    decoder_depth: int = Field(3, ge=1)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            *super().space(),
            Dimension(name="temperature", low=0.1, high=1, log=True),
        )


class Sit(Method):
    """Three losses under weights that are learned.

    ``L = sum_t L_t / (2 s_t^2) + log s_t`` (Kendall et al. 2018) over: L1 of all pixels of the
    image before corruption, cross-entropy of its rotation, NT-Xent of two views (Atito et al. 2021,
    version 1). The ViT's class token is the contrastive one and is transferred with the backbone;
    the token that tells the rotation is the method's own and is dropped after pretraining.
    """

    Config = SitConfig
    needs_tokens = True
    chance = 1 / N_TURNS

    def __init__(self, config: SitConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone: TokenBackbone = with_tokens("sit", backbone)
        self.config = config
        width, hidden = self.backbone.width, config.hidden_width
        self.rotation_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.projector = SimCLRProjectionHead(width, hidden, config.projection_width)
        self.tell = nn.Linear(width, N_TURNS)
        self.decoder = PixelDecoder(width, hidden, config.decoder_depth, self.backbone.patch_px)
        self.log_variance = nn.Parameter(torch.zeros(3))
        self.contrast = NTXentLoss(config.temperature, gather_distributed=several_processes())

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return two views that stand upright, or the rotation could not be told."""
        upright = base.replace(quarter_turns=False, vertical_flip=0, erase=0)
        return (upright, upright)

    def step(self, batch: Batch) -> StepResult:
        """Return the weighted losses; both views pass the encoder together."""
        turns = torch.randint(N_TURNS, (2, batch.n_drawn), generator=batch.rng)
        turns = batch.mine(turns, dim=1)
        wanted = [turned(view, turn) for view, turn in zip(batch.views, turns, strict=True)]
        # view by view: no image gets pieces of its own other view
        shown = [self._corrupted(images, batch) for images in wanted]
        tokens = self.backbone.encode_tokens(torch.cat(shown), prefix=self.rotation_token)
        projection, scores = self.projector(tokens[:, 0]), self.tell(tokens[:, 1])
        pixels = self.decoder(as_map(tokens[:, 2:]))
        truth = turns.flatten().to(scores.device)
        with full_precision(pixels):
            losses = {
                "reconstruction": F.l1_loss(pixels.float(), torch.cat(wanted).float()),
                "rotation": F.cross_entropy(scores.float(), truth),
                "contrastive": self.contrast(*projection.float().chunk(2)),
            }
            loss = uncertainty_weighted(torch.stack([*losses.values()]), self.log_variance)
        right = (scores.argmax(dim=1) == truth).float().mean()
        weights = (0.5 * (-self.log_variance.detach()).exp()).unbind()
        parts = {name: value.detach() for name, value in losses.items()} | {"accuracy": right}
        parts |= {f"{name}_weight": weight for name, weight in zip(losses, weights, strict=True)}
        return StepResult(loss=loss, parts=parts)

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return all pixels as predicted, of the first view and upright."""
        images = batch.views[0]
        shown = self._corrupted(images, batch)
        tokens = self.backbone.encode_tokens(shown, prefix=self.rotation_token)
        painted = self.decoder(as_map(tokens[:, 2:]))
        return Reconstruction(shown=shown, painted=painted, truth=images)

    def rate(self, name: str) -> Rate:
        """Let the weights of the losses settle in hundreds of steps; the paper has 800 epochs."""
        return Rate(scale=10) if name == "log_variance" else Rate()

    def _corrupted(self, images: Tensor, batch: Batch) -> Tensor:
        side, patch_px = images.shape[-1], self.backbone.patch_px
        params = sample_corruption(self.config, batch.n_drawn, side, patch_px, batch.rng)
        return corrupt(images, params.of(batch)).images


def uncertainty_weighted(losses: Tensor, log_variance: Tensor) -> Tensor:
    """Return ``sum_t L_t / (2 s_t^2) + log s_t`` of losses (T,), with ``log s_t^2`` given (T,)."""
    return (0.5 * (losses * (-log_variance).exp() + log_variance)).sum()


def turned(images: Tensor, quarters: Tensor) -> Tensor:
    """Return images (B, 3, S, S), each turned counter-clockwise by ``quarters`` (B,) of 90°."""
    out = torch.empty_like(images)
    for quarter in range(N_TURNS):
        rows = (quarters == quarter).nonzero()[:, 0].to(images.device)
        out[rows] = images[rows].rot90(quarter, dims=(2, 3))
    return out
