"""Layers: the features of every stage or block of a backbone, pooled to comparable width."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from melssl.backbones.base import Backbone, BackboneConfig


def pooled(features: Tensor, width: int) -> Tensor:
    """Average a map (B, C, H, W) down to the largest s x s with ``C s s <= width``: (B, C s s).

    ``s`` is at least 1, so that of more than ``width`` channels all are kept, and at most H and W.
    """
    channels, *sides = features.shape[1:]
    side = max(1, min(math.isqrt(width // channels), *sides))
    return F.adaptive_avg_pool2d(features, side).flatten(1)


def pooled_layers(backbone: Backbone, images: Tensor, width: int) -> list[Tensor]:
    """Return ``pooled`` of every stage or block, the one nearest to the input first."""
    return [pooled(features, width) for features in backbone.features(images)]


@cache
def layer_widths(config: BackboneConfig, image_px: int, width: int) -> tuple[int, ...]:
    """Return the width of each pooled layer of a backbone, from one blank image."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        backbone = config.build(image_px).eval()
        layers = pooled_layers(backbone, torch.zeros(1, 3, image_px, image_px), width)
    return tuple(layer.shape[1] for layer in layers)
