"""Colourisation: which colours has this grey picture?"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone
from melssl.data.lab import lab_to_srgb, srgb_to_lab
from melssl.data.views import ViewRecipe
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
)
from melssl.methods.colour_bins import (
    annealed_mean,
    fitted_bins,
    possible_bins,
    rebalanced,
    soft_encoded,
)
from melssl.space import Dimension
from melssl.training.trainable import StepResult

TARGET_STRIDE = 4  # colours are predicted at a quarter of the side, as in the paper
PLAIN = ViewRecipe()  # how the encoder's images are normalised


class ColourisationConfig(MethodConfig):
    """Settings of colourisation (Zhang et al. 2016, arXiv 1603.08511)."""

    label: ClassVar[str] = "colourisation"
    name: Literal["colourisation"] = "colourisation"
    n_bins: int = Field(64, ge=8, le=529, description="colours: the cohort's most frequent")
    uniform_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="of the weights' prior; 1: no rebalancing, 0: all colours alike",
    )
    decoder_width: int = Field(64, ge=8)
    decoder_depth: int = Field(2, ge=1)

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="n_bins", low=16, high=256, log=True, whole=True),
            Dimension(name="uniform_share", low=0, high=1),
        )


class Colourisation(Method):
    """Cross-entropy of every place against the shares of its colour's nearest bins, rebalanced.

    ``L = -1/(B h w) sum w(q*) sum_q Z_q log Y_q`` with ``q* = argmax Z``, ``Z`` the soft target and
    ``Y`` what is predicted from lightness alone (Zhang et al. 2016, eq. 2-4; a mean over places).
    The bins are those of the cohort; before it has been seen, those nearest to grey.
    """

    Config = ColourisationConfig
    looks_at = 512
    bins: Tensor
    weight: Tensor
    tint: Tensor

    def __init__(self, config: ColourisationConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.config = config
        self.register_buffer("bins", possible_bins()[: config.n_bins])
        self.register_buffer("weight", torch.ones(config.n_bins))
        self.register_buffer("tint", torch.zeros(2))
        self.chance = 1 / config.n_bins
        self.decoder = ColourDecoder(backbone.map_width, config)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one raw view of geometry only: its colours are what is asked for."""
        plain = base.replace(jitter=0, grayscale=0, solarise=0, blur=0, erase=0)
        return (plain.replace(mean=(0, 0, 0), std=(1, 1, 1)),)

    @torch.no_grad()
    def look(self, images: Tensor) -> None:
        """Fit bins and their weights to images (n, 3, S, S) in 0..1."""
        ab = _rows(colours(srgb_to_lab(images)))
        self.tint.copy_(ab.mean(dim=0))
        bins, share = fitted_bins(ab, self.config.n_bins)
        weight = rebalanced(share, bins, self.config.uniform_share)
        self.bins.copy_(bins)
        self.weight.copy_(weight)
        self.chance = float((share * weight).max() / (share * weight).sum())

    def step(self, batch: Batch) -> StepResult:
        """Return the weighted cross-entropy of one batch; its accuracy has the same weights."""
        (images,) = batch.views
        with full_precision(images):
            lab = srgb_to_lab(images.float())
            target = soft_encoded(_rows(colours(lab)), self.bins)
            true = target.argmax(dim=1)
            weight = self.weight[true]
        scores = _rows(self.scores(lab))
        with full_precision(scores):
            wrong = F.cross_entropy(scores.float(), target, reduction="none")
            right = (scores.detach().argmax(dim=1) == true) * weight
            return StepResult(
                loss=(weight * wrong).mean(), parts={"accuracy": right.sum() / weight.sum()}
            )

    def scores(self, lab: Tensor) -> Tensor:
        """Return scores of the bins (B, Q, h, w); only the lightness of ``lab`` is read."""
        with full_precision(lab):
            shown = monochrome(lab, self.tint)
        side = max(lab.shape[-1] // TARGET_STRIDE, 1)
        scores: Tensor = self.decoder(self.backbone.features(shown)[-1], side)
        return scores

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return the lightness, and on it the colours that are predicted."""
        (images,) = batch.views
        lightness = srgb_to_lab(images)
        lightness[:, 1:] = 0
        painted = self.colourised(images)
        return Reconstruction(shown=lab_to_srgb(lightness), painted=painted, truth=images)

    @torch.no_grad()
    def colourised(self, images: Tensor) -> Tensor:
        """Return images (B, 3, S, S) in 0..1 with their own lightness and the predicted colours.

        For pictures: put the method into evaluation mode first.
        """
        lab = srgb_to_lab(images)
        scores = self.scores(lab)
        ab = annealed_mean(_rows(scores).float(), self.bins)
        small = ab.view(len(images), *scores.shape[2:], 2).movedim(3, 1)
        painted = F.interpolate(small, lab.shape[2:], mode="bilinear", align_corners=False)
        return lab_to_srgb(torch.cat([lab[:, :1], painted], dim=1))


class ColourDecoder(nn.Module):
    """Enlarges the last feature map in ``decoder_depth`` even steps and scores the bins."""

    def __init__(self, width: int, config: ColourisationConfig) -> None:
        super().__init__()
        widths = [width, *[config.decoder_width] * config.decoder_depth]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            )
            for before, after in pairwise(widths)
        )
        self.score = nn.Conv2d(config.decoder_width, config.n_bins, 1)

    def forward(self, features: Tensor, side: int) -> Tensor:
        """Return scores (B, Q, side, side) from a map (B, C, H, W)."""
        start = features.shape[-1]
        for index, block in enumerate(self.blocks, 1):
            px = round(start * (side / start) ** (index / len(self.blocks)))
            features = F.interpolate(features, (px, px), mode="bilinear", align_corners=False)
            features = block(features)
        scores: Tensor = self.score(features)
        return scores


def colours(lab: Tensor) -> Tensor:
    """Return the mean colours (B, 2, h, w) of places of 4 x 4 pixels."""
    return F.adaptive_avg_pool2d(lab[:, 1:], max(lab.shape[-1] // TARGET_STRIDE, 1))


def monochrome(lab: Tensor, tint: Tensor) -> Tensor:
    """Return the lightness in one tint (a, b) for all images, normalised as the encoder's are."""
    flat = tint[:, None, None].expand(len(lab), 2, *lab.shape[2:])
    images = lab_to_srgb(torch.cat([lab[:, :1], flat], dim=1))
    mean, std = (lab.new_tensor(values)[:, None, None] for values in (PLAIN.mean, PLAIN.std))
    return (images - mean) / std


def _rows(maps: Tensor) -> Tensor:
    """Return the places of maps (B, C, h, w) as rows (B h w, C)."""
    return maps.movedim(1, 3).flatten(0, 2)
