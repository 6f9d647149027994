"""Decoders: feature maps of an encoder become scores of every voxel, by MONAI's blocks.

MONAI and einops are the extra ``volumes``; they are imported when a decoder is built.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.errors import BackboneError, require
from melssl.frame import Frame

NORM, KERNEL = "instance", 3
EXTRAS = ("monai", "einops")


class Decoder(nn.Module):
    """What stands above an encoder: its maps and the image itself become scores of every voxel."""

    @abstractmethod
    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return scores (B, n_scores, *sides) of ``images`` (B, C, *sides), from all their maps."""


def decoder_for(backbone: Backbone, frame: Frame, n_scores: int, narrowest: int) -> Decoder:
    """Return the decoder that suits an encoder, with random weights.

    Patch tokens are decoded as in UNETR (Hatamizadeh et al. 2022), maps of a CNN as in a U-Net
    (Ronneberger et al. 2015; Cicek et al. 2016). ``narrowest`` is the number of channels at full
    resolution.

    Raises:
        MissingExtraError: MONAI is not installed.
        BackboneError: the encoder's maps cannot be doubled up to the image.

    """
    check_decodable(backbone, frame)
    if isinstance(backbone, TokenBackbone):
        return UnetrDecoder(backbone, frame, n_scores, narrowest)
    return UnetDecoder(_shapes(backbone, frame), frame, n_scores, narrowest)


def check_decodable(backbone: Backbone, frame: Frame) -> None:
    """Refuse an encoder that no decoder suits; MONAI is not imported.

    Raises:
        MissingExtraError: MONAI is not installed.
        BackboneError: the encoder's maps cannot be doubled up to the image.

    """
    for package in EXTRAS:
        require(package, "volumes", "segmentation")
    if isinstance(backbone, TokenBackbone):
        _n_scales(backbone)
    else:
        _levels(_shapes(backbone, frame), frame, 1)


class UnetrDecoder(Decoder):
    """UNETR's: tokens after evenly spaced blocks are lifted to their scales, and joined upwards.

    A patch of 2^L voxels has L scales above it. The image itself is the skip of the finest; scale l
    of the others takes the tokens after block ``depth l / L``, whose side is doubled L - l times.
    With patches of 16 and twelve blocks these are blocks 3, 6 and 9, as published.
    """

    def __init__(
        self, backbone: TokenBackbone, frame: Frame, n_scores: int, narrowest: int
    ) -> None:
        super().__init__()
        from monai.networks.blocks.dynunet_block import UnetOutBlock
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock

        n_dims, n_scales, width = frame.n_dims, _n_scales(backbone), backbone.map_width
        depth = len(backbone.stages()) - 1  # without the stem
        self.read = [max(1, round(depth * i / n_scales)) - 1 for i in range(1, n_scales)]
        self.image = UnetrBasicBlock(
            n_dims, frame.channels, narrowest, KERNEL, stride=1, norm_name=NORM, res_block=True
        )
        self.lifts = nn.ModuleList(
            UnetrPrUpBlock(
                n_dims,
                width,
                narrowest * 2**scale,
                num_layer=n_scales - scale - 1,
                kernel_size=KERNEL,
                stride=1,
                upsample_kernel_size=2,
                norm_name=NORM,
                conv_block=True,
                res_block=True,
            )
            for scale in range(1, n_scales)
        )
        widths = [narrowest * 2**scale for scale in range(n_scales)] + [width]
        self.ups = nn.ModuleList(
            UnetrUpBlock(n_dims, below, above, KERNEL, 2, norm_name=NORM, res_block=True)
            for above, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.out = UnetOutBlock(n_dims, narrowest, n_scores)

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return scores (B, n_scores, *sides)."""
        lifted = [lift(maps[block]) for lift, block in zip(self.lifts, self.read, strict=True)]
        skips = [self.image(images), *lifted]
        x = maps[-1]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        scores: Tensor = self.out(x)
        return scores


class UnetDecoder(Decoder):
    """A U-Net's: each map is brought to the size of the next finer one and joined with it."""

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], frame: Frame, n_scores: int, narrowest: int
    ) -> None:
        super().__init__()
        from monai.networks.blocks.dynunet_block import UnetOutBlock
        from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock

        n_dims = frame.n_dims
        self.read = _scales(shapes, frame)
        levels = _levels(shapes, frame, narrowest)
        self.image = UnetrBasicBlock(
            n_dims, frame.channels, narrowest, KERNEL, stride=1, norm_name=NORM, res_block=True
        )
        self.ups = nn.ModuleList(
            UnetrUpBlock(
                *(n_dims, below[0], above[0], KERNEL, _times(above, below)),
                norm_name=NORM,
                res_block=True,
            )
            for above, below in zip(levels[-2::-1], levels[:0:-1], strict=True)
        )
        self.out = UnetOutBlock(n_dims, narrowest, n_scores)

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return scores (B, n_scores, *sides)."""
        *finer, x = (maps[place] for place in self.read)
        for up, skip in zip(self.ups, [*reversed(finer), self.image(images)], strict=True):
            x = up(x, skip)
        scores: Tensor = self.out(x)
        return scores


def _n_scales(backbone: TokenBackbone) -> int:
    """Return how often a patch's side can be halved."""
    sides = set(backbone.patch)
    (side, *others) = sides
    if others or side < 2 or side & (side - 1):
        raise BackboneError(
            "segmentation doubles patches up to the image: expected one side of 2, 4, 8 or 16"
            f" voxels along every axis, got {'x'.join(map(str, backbone.patch))}; set"
            " backbone.patch_px and backbone.patch_depth, or use a CNN"
        )
    return int(math.log2(side))


@torch.no_grad()
def _shapes(backbone: Backbone, frame: Frame) -> list[tuple[int, ...]]:
    """Return channels and sides of every map of an image of zeros."""
    training = backbone.training
    maps = backbone.eval().features(frame.blank())
    backbone.train(training)
    return [tuple(one.shape[1:]) for one in maps]


def _scales(shapes: Sequence[tuple[int, ...]], frame: Frame) -> list[int]:
    """Return which maps are read, from the finest: of each size the last, below the image's."""
    last = {shape[1:]: place for place, shape in enumerate(shapes) if shape[1:] != frame.sides}
    if not last:
        raise BackboneError(
            f"segmentation: expected an encoder whose maps shrink, got maps of {frame.sides} only;"
            " use small_cnn or a ViT"
        )
    return sorted(last.values())


def _levels(
    shapes: Sequence[tuple[int, ...]], frame: Frame, narrowest: int
) -> list[tuple[int, ...]]:
    """Return channels and sides of every level, the image's own first.

    Raises:
        BackboneError: a level is no multiple of the next.

    """
    levels = [(narrowest, *frame.sides), *(shapes[place] for place in _scales(shapes, frame))]
    for above, below in pairwise(levels):
        _times(above, below)
    return levels


def _times(above: tuple[int, ...], below: tuple[int, ...]) -> list[int]:
    """Return how often the sides of a map go into those of the next finer one."""
    times = [fine // coarse for fine, coarse in zip(above[1:], below[1:], strict=True)]
    whole = [t * side for t, side in zip(times, below[1:], strict=True)]
    if whole != list(above[1:]):
        raise BackboneError(
            f"segmentation: a map of {below[1:]} cannot be brought to {above[1:]} by whole numbers;"
            " choose image_px (and depth) as a multiple of what the encoder halves it by, 16 or 32"
        )
    return times
