"""SiT as of December 2022: reconstruct what is hidden, and match a momentum teacher's view."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
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
    with_tokens,
)
from melssl.methods.corruption import CorruptionConfig, corrupt, sample_corruption
from melssl.methods.pixel_decoder import PixelDecoder, as_map, hidden_l1
from melssl.methods.target import Target, annealed, key_contrast
from melssl.space import Dimension
from melssl.training.trainable import Progress, StepResult


class Sit2022Config(CorruptionConfig, PairConfig):
    """Settings of SiT's later form (Atito, Awais and Kittler, arXiv 2104.03602, last version).

    Half the area is hidden and .3 of it overlaid with another image: .65 together. The authors
    weigh the reconstruction by 1, by 5 on small data; their momentum starts at .996.
    """

    label: ClassVar[str] = "SiT 2022"
    name: Literal["sit_2022"] = "sit_2022"
    mask_ratio: float = Field(0.65, gt=0, le=0.95, description="as GMML's")
    noise_share: float = Field(0.0, ge=0, le=1)
    alien_share: float = Field(0.45, ge=0, le=1)
    temperature: float = Field(0.2, ge=0.001, le=10)
    momentum: float = Field(0.99, ge=0, le=1, description="of the teacher at first; 1 last")
    reconstruction_weight: float = Field(5.0, ge=0)
    projection_width: int = Field(256, ge=8)
    hidden_width: int = Field(256, ge=8, description="of the projector and of the decoder")
    decoder_depth: int = Field(3, ge=1)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            *super().space(),
            Dimension(name="temperature", low=0.05, high=1, log=True),
            Dimension(name="reconstruction_weight", low=0.5, high=20, log=True),
        )


class Sit2022(Method):
    """Contrast with a teacher that sees whole images, and L1 of what is corrupted.

    ``L = c(q1, k2) + c(q2, k1) + w L_rec``, ``L_rec`` over corrupted pixels of both views and
    ``c(q, k) = -2 T mean_i log( exp(q_i k_i / T) / sum_j exp(q_i k_j / T) )``, all of unit length,
    ``k`` from the teacher (Atito et al., last version; Chen et al. 2021, algorithm 1).
    """

    Config = Sit2022Config
    needs_tokens = True

    def __init__(self, config: Sit2022Config, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone: TokenBackbone = with_tokens("sit_2022", backbone)
        self.config = config
        width, hidden = self.backbone.width, config.hidden_width
        self.projector = SimCLRProjectionHead(width, hidden, config.projection_width)
        self.decoder = PixelDecoder(width, hidden, config.decoder_depth, self.backbone.patch_px)
        self.teacher = Target(self.online)

    @property
    def online(self) -> nn.Module:
        """What the teacher follows; the decoder is not part of it."""
        return nn.Sequential(ClassToken(self.backbone), self.projector)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return the base recipe twice, without boxes that would have to be reconstructed."""
        return (base.replace(erase=0), base.replace(erase=0))

    def step(self, batch: Batch) -> StepResult:
        """Return contrast and reconstruction; both corrupted views pass the student together."""
        how = (self.config, batch.n_drawn, batch.views[0].shape[-1], self.backbone.patch_px)
        # view by view: no image gets pieces of its own other view
        shown = [
            corrupt(view, sample_corruption(*how, batch.rng).of(batch)) for view in batch.views
        ]
        tokens = self.backbone.encode_tokens(torch.cat([one.images for one in shown]))
        pixels = self.decoder(as_map(tokens[:, 1:]))
        queries = [self.projector(token) for token in tokens[:, 0].chunk(2)]
        keys = [self.teacher(view) for view in batch.views]
        with full_precision(pixels):
            first, second = (F.normalize(query.float()) for query in queries)
            key_first, key_second = (F.normalize(key.float()) for key in keys)
            temperature = self.config.temperature
            contrast = key_contrast(first, key_second, temperature)
            contrast = contrast + key_contrast(second, key_first, temperature)
            hidden = torch.cat([one.hidden for one in shown])
            error = hidden_l1(pixels.float(), torch.cat(batch.views).float(), hidden)
            loss = contrast + self.config.reconstruction_weight * error
        parts = {"contrastive": contrast.detach(), "reconstruction": error.detach()}
        return StepResult(loss=loss, parts=parts | {"mask_ratio": hidden.float().mean()})

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return corrupted pixels of the first view as predicted."""
        images = batch.views[0]
        how = (self.config, batch.n_drawn, images.shape[-1], self.backbone.patch_px)
        shown = corrupt(images, sample_corruption(*how, batch.rng).of(batch))
        pixels = self.decoder(as_map(self.backbone.encode_tokens(shown.images)[:, 1:]))
        painted = torch.where(shown.hidden[:, None], pixels, images)
        return Reconstruction(shown=shown.images, painted=painted, truth=images)

    def after_step(self, progress: Progress) -> None:
        """Move the teacher, ever more slowly."""
        self.teacher.follow(self.online, annealed(self.config.momentum, 1.0, progress.fraction))


class ClassToken(nn.Module):
    """The class token (B, width) of a ViT, whatever its embedding is pooled from."""

    def __init__(self, backbone: TokenBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return the class token of images (B, 3, S, S)."""
        return self.backbone.encode_tokens(images)[:, 0]
