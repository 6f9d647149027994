"""Backbone: the encoder that is kept after pretraining, and what a method may ask of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from melssl.errors import BackboneError
from melssl.frame import IMAGES, RGB, Frame, Kind, frame_of
from melssl.settings import Settings


class BackboneConfig(Settings):
    """Settings of a backbone; a subclass per family, named by its literal field ``family``.

    ``media`` are what it can see.
    """

    label: ClassVar[str]
    has_tokens: ClassVar[bool] = False
    media: ClassVar[frozenset[Kind]] = IMAGES
    family: str

    def build(self, size: Frame | int) -> Backbone:
        """Return a randomly initialised backbone for samples of a frame, or square RGB images.

        Raises:
            BackboneError: it cannot see such samples.

        """
        frame = frame_of(size)
        seen = self.media & IMAGES if frame.depth is None else self.media - IMAGES
        if not seen or (frame.channels != RGB and self.media == IMAGES):
            media = " and ".join(f"{medium}s" for medium in sorted(self.media))
            raise BackboneError(
                f"backbone {self.family!r} sees {media}; expected one for samples of {frame} in"
                f" {frame.channels} channel(s), such as small_cnn or small_vit"
            )
        return self.make(frame)

    @abstractmethod
    def make(self, frame: Frame) -> Backbone:
        """Return a randomly initialised backbone for samples of a frame that it can see."""


class Backbone(nn.Module):
    """An encoder of images (B, C, H, W), volumes or clips (B, C, D, H, W) to embeddings (B, width).

    ``map_width`` is the number of channels of its last feature map.
    """

    width: int
    map_width: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, width)."""

    @abstractmethod
    def stages(self) -> list[nn.Module]:
        """Return the stem, then each stage (of a CNN, a Swin) or block (of a ViT), from the input.

        Together they hold every weight, each once: what leads to the first stage belongs to the
        stem, what follows the last (a norm, a last convolution) to the last. They are there to be
        frozen, thawed or given a learning rate, not to be called: some are lists of modules.
        """

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps (B, C, [D',] H', W') of all stages or blocks, in order."""

    def place_px(self, size: Frame | int) -> int:
        """Return the side in the plane, px, of what one place of the last map stands for."""
        return self.place(size)[-1]

    @torch.no_grad()
    def place(self, size: Frame | int) -> tuple[int, ...]:
        """Return the sides, px, of what one place of the last map stands for: powers of two.

        Nets halve; where a side is odd they round up, and the last places reach over the border.
        """
        frame, training = frame_of(size), self.training
        try:
            last = self.eval().features(frame.blank())[-1]
        finally:
            self.train(training)
        pairs = zip(frame.sides, last.shape[2:], strict=True)
        return tuple(int(2 ** math.ceil(math.log2(side / places))) for side, places in pairs)


class TokenBackbone(Backbone):
    """A backbone that sees a sample as a sequence of patch tokens.

    ``patch`` are the sides of one, (P, P) or (P', P, P), ``grid`` how many there are along each.
    """

    patch: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def patch_px(self) -> int:
        """The side of a patch in the plane, px."""
        return self.patch[-1]

    def place(self, size: Frame | int) -> tuple[int, ...]:
        """Return the sides of a patch, px."""
        return self.patch

    @abstractmethod
    def encode_tokens(
        self,
        images: Tensor,
        keep: Tensor | None = None,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return the class token and the kept patch tokens, (B, 1 + K, width).

        ``keep`` (B, K) holds indices into the row-major grid of patches; None keeps all. Where
        ``hidden`` (B, N) bool is True, ``mask_token`` (width,) takes the patch's place; it gets
        the position. Images of another size than the grid's have their positions resampled.
        ``prefix`` (P, width) are further tokens without a position, learned by the caller; they
        stand after the class token: (B, 1 + P + K, width).
        """
