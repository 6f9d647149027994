"""The two-stream generator of clips: what moves, before a ground that stays."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from melssl.frame import Frame

DOUBLING = (4, 2, 1)  # kernel, stride and padding
SEED_PX = 4


class Dream(NamedTuple):
    """Clips (B, C, D, S, S) and the two streams they are made of, in -1..1.

    ``mask`` (B, 1, D, S, S) in 0..1 is the share of what moves, ``front`` (B, C, D, S, S); the
    rest is ``ground`` (B, C, 1, S, S).
    """

    clips: Tensor
    mask: Tensor
    front: Tensor
    ground: Tensor


class VideoGenerator(nn.Module):
    """``G(z) = m(z) f(z) + (1 - m(z)) b(z)`` (Vondrick et al. 2016, section 3.1).

    f and m share all layers but the last and are convolutions in space and time, b in space alone:
    a ground that does not move and a mask force apart what moves. Every layer doubles all sides
    (from 4 x 4 px and one or more frames) and halves the channels, of which the last but one has
    ``width``; what is larger than the frame is cut off.
    """

    def __init__(self, frame: Frame, noise_width: int, width: int) -> None:
        super().__init__()
        assert frame.depth is not None
        self.frame, self.noise_width = frame, noise_width
        n_layers = max(math.ceil(math.log2(frame.side_px / SEED_PX)), 1)
        seed_px = math.ceil(frame.side_px / 2**n_layers)
        seed = (math.ceil(frame.depth / 2**n_layers), seed_px, seed_px)
        widths = [width * 2**k for k in reversed(range(n_layers))]
        self.moving = nn.Sequential(
            nn.ConvTranspose3d(noise_width, widths[0], seed, bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(),
            *(layer for pair in pairwise(widths) for layer in _doubled(*pair)),
        )
        self.front = nn.ConvTranspose3d(widths[-1], frame.channels, *DOUBLING)
        self.mask = nn.ConvTranspose3d(widths[-1], 1, *DOUBLING)
        self.still = nn.Sequential(
            nn.ConvTranspose2d(noise_width, widths[0], seed_px, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            *(layer for pair in pairwise(widths) for layer in _wider(*pair)),
            nn.ConvTranspose2d(widths[-1], frame.channels, *DOUBLING),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor) -> Dream:
        """Return the clips of noise (B, Z)."""
        depth, side = self.frame.depth, self.frame.side_px
        moving = self.moving(noise[:, :, None, None, None])
        front = torch.tanh(self.front(moving))[:, :, :depth, :side, :side]
        mask = torch.sigmoid(self.mask(moving))[:, :, :depth, :side, :side]
        ground = self.still(noise[:, :, None, None])[:, :, None, :side, :side]
        clips = mask * front + (1 - mask) * ground
        return Dream(clips=clips, mask=mask, front=front, ground=ground)


def _doubled(before: int, width: int) -> tuple[nn.Module, ...]:
    conv = nn.ConvTranspose3d(before, width, *DOUBLING, bias=False)
    return conv, nn.BatchNorm3d(width), nn.ReLU()


def _wider(before: int, width: int) -> tuple[nn.Module, ...]:
    conv = nn.ConvTranspose2d(before, width, *DOUBLING, bias=False)
    return conv, nn.BatchNorm2d(width), nn.ReLU()
