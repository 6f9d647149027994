"""PixelDecoder: a light head that lays out pixels from the last map, and the L1 error of them."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from melssl.methods.base import mean_count


class PixelDecoder(nn.Module):
    """An MLP with GELU at every place of a map, whose outputs are the pixels of that place.

    (B, width, h, w) to (B, 3, h * scale, w * scale). With one layer it is the transposed
    convolution of non-overlapping patches.
    """

    def __init__(self, width: int, hidden_width: int, depth: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        for before, after in pairwise([width, *[hidden_width] * (depth - 1), 3 * scale**2]):
            layers += [nn.GELU(), nn.Conv2d(before, after, 1)]
        self.layers = nn.Sequential(*layers[1:])

    def forward(self, features: Tensor) -> Tensor:
        """Return pixels, normalised as the views are."""
        return F.pixel_shuffle(self.layers(features), self.scale)


def as_map(patches: Tensor) -> Tensor:
    """Return patch tokens (B, N, width) of square images as a map (B, width, rows, columns)."""
    side = math.isqrt(patches.shape[1])
    return patches.transpose(1, 2).reshape(len(patches), -1, side, side)


def hidden_l1(prediction: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """Return ``sum_{p in H} |prediction_p - image_p| / (3 |H|)`` over the batch, a scalar.

    ``hidden`` (B, S, S) bool holds the pixels H; images are (B, 3, S, S).
    """
    error = (prediction - images).abs().mean(dim=1)
    return (error * hidden).sum() / mean_count(hidden.sum()).clamp(min=1)
