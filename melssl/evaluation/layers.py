"""Layers: the features of every stage or block of a backbone, pooled to comparable width."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.frame import Frame


def pooled(features: Tensor, width: int) -> Tensor:
    """Average a map (B, C, H, W) down to the largest s x s with ``C s s <= width``: (B, C s s).

    ``s`` is at least 1, so that of more than ``width`` channels all are kept, and at most H and W.
    Of a map (B, C, D, H, W) no side becomes longer than s, and none than it was.
    """
    channels, *sides = features.shape[1:]
    grids = ([min(side, own) for own in sides] for side in range(max(sides), 1, -1))
    fitting = (grid for grid in grids if channels * math.prod(grid) <= width)
    grid = next(fitting, [1] * len(sides))
    if len(sides) == 2:
        return F.adaptive_avg_pool2d(features, (grid[0], grid[1])).flatten(1)
    return F.adaptive_avg_pool3d(features, (grid[0], grid[1], grid[2])).flatten(1)


def pooled_layers(backbone: Backbone, images: Tensor, width: int) -> list[Tensor]:
    """Return ``pooled`` of every stage or block, the one nearest to the input first."""
    return [pooled(features, width) for features in backbone.features(images)]


@cache
def layer_widths(config: BackboneConfig, frame: Frame, width: int) -> tuple[int, ...]:
    """Return the width of each pooled layer of a backbone, from one blank sample."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        backbone = config.build(frame).eval()
        layers = pooled_layers(backbone, frame.blank(), width)
    return tuple(layer.shape[1] for layer in layers)
