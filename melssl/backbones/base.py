"""Backbone: the encoder that is kept after pretraining, and what a method may ask of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from melssl.settings import Settings


class BackboneConfig(Settings):
    """Settings of a backbone; a subclass per family, named by its literal field ``family``."""

    label: ClassVar[str]
    has_tokens: ClassVar[bool] = False
    family: str

    @abstractmethod
    def build(self, image_px: int) -> Backbone:
        """Return a randomly initialised backbone for square RGB images of ``image_px``."""


class Backbone(nn.Module):
    """An encoder of images (B, 3, H, W) to embeddings (B, width).

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
        """Return the feature maps (B, C, H', W') of all stages or blocks, the last one last."""

    @torch.no_grad()
    def place_px(self, image_px: int) -> int:
        """Return the side, px, of what one place of the last map stands for: a power of two.

        Nets halve; where a side is odd they round up, and the last places reach over the border.
        """
        training = self.training
        try:
            last = self.eval().features(torch.zeros(1, 3, image_px, image_px))[-1]
        finally:
            self.train(training)
        return int(2 ** math.ceil(math.log2(image_px / last.shape[-1])))


class TokenBackbone(Backbone):
    """A backbone that sees an image as a sequence of patch tokens."""

    patch_px: int
    grid: tuple[int, int]

    def place_px(self, image_px: int) -> int:
        """Return the side of a patch, px."""
        return self.patch_px

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
