"""SimMIM: hide units of the image, predict their pixels by one layer; for every backbone."""

from __future__ import annotations

from math import prod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.frame import ALL_MEDIA
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    Reconstruction,
    full_precision,
    mean_count,
)
from melssl.methods.masking import MaskShape, masks_of_ratio
from melssl.methods.patches import enlarged, pixels_of_places, within
from melssl.space import Dimension
from melssl.training.trainable import StepResult

FLAT = 0.01  # variance below which a unit is bare skin, whose noise is not to be blown up


class SimMimConfig(MethodConfig):
    """Settings of SimMIM (Xie et al. 2021, arXiv 2111.09886).

    The paper predicts pixels as they are; here most of their error would be light and camera.
    """

    label: ClassVar[str] = "SimMIM"
    name: Literal["simmim"] = "simmim"
    mask_ratio: float = Field(0.6, gt=0, lt=1, description="share of units hidden")
    mask_shape: MaskShape = Field("random", description="what is hidden together")
    mask_units: int = Field(
        8, ge=2, description="units along a side; the nearest number that divides grid or image"
    )
    normalise_target: bool = Field(True, description="per unit and channel, mean 0 and variance 1")

    def space(self) -> tuple[Dimension, ...]:
        """Return what a search varies."""
        return (
            Dimension(name="mask_ratio", low=0.3, high=0.9),
            Dimension(name="mask_shape", choices=("random", "block", "group")),
        )


class SimMim(Method):
    """Mean absolute error over hidden pixels.

    ``L = 1/|M| sum_{i in M} | P(E(x_masked))_i - n(x_i) |``, P one 1x1 convolution and ``n`` the
    normalisation of each unit and channel (Xie et al. 2021, equation 1). A ViT gets a mask token in
    place of hidden patches. A net without tokens gets the hidden pixels in a learned colour: that
    it can move away from every colour of skin is what tells hidden from dark or pale, which a fixed
    zero (the mean of ImageNet, a tan here) does not.
    """

    Config = SimMimConfig
    media = ALL_MEDIA

    def __init__(self, config: SimMimConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.mask_ratio, self.mask_shape = config.mask_ratio, config.mask_shape
        self.normalise_target = config.normalise_target
        self.cell = backbone.place(facts.frame)
        if isinstance(backbone, TokenBackbone):
            sides = backbone.grid
            self.mask_token = nn.Parameter(0.02 * torch.randn(backbone.width))
        else:
            sides = facts.frame.sides
            self.mask_token = nn.Parameter(torch.zeros(facts.frame.channels))
        self.units = tuple(divisor(side, config.mask_units) for side in sides)
        convolution = nn.Conv2d if len(self.units) == 2 else nn.Conv3d
        self.predict = convolution(backbone.map_width, facts.frame.channels * prod(self.cell), 1)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view of geometry only: colour is part of what is predicted."""
        return (base.replace(jitter=0, grayscale=0, solarise=0, blur=0, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return the error of the hidden pixels."""
        (images,) = batch.views
        units = self._hidden_units(batch).to(images.device)
        prediction = self.predict(self.encode(images, units))
        sides = tuple(images.shape[2:])
        with full_precision(prediction):
            gap = (self._pixels(prediction.float(), sides) - self.target(images.float())).abs()
            hidden = enlarged(units, sides)[:, None]
            loss = (gap * hidden).sum() / (images.shape[1] * mean_count(hidden.sum()))
        return StepResult(loss=loss, parts={"mask_ratio": units.float().mean()})

    def reconstruct(self, batch: Batch) -> Reconstruction:
        """Return hidden pixels as predicted, with their unit's mean and deviation put back."""
        (images,) = batch.views
        units = self._hidden_units(batch).to(images.device)
        sides = tuple(images.shape[2:])
        pixels = self._pixels(self.predict(self.encode(images, units)), sides)
        if self.normalise_target:
            mean, deviation = self._scale(self._cells(images))
            pixels = (self._cells(pixels) * deviation + mean).view(images.shape)
        hidden = enlarged(units, sides)[:, None]
        return Reconstruction(
            shown=images.masked_fill(hidden, torch.nan),
            painted=torch.where(hidden, pixels, images),
            truth=images,
        )

    def target(self, images: Tensor) -> Tensor:
        """Return the pixels (B, C, *sides) that are to be predicted."""
        if not self.normalise_target:
            return images
        cells = self._cells(images)
        mean, deviation = self._scale(cells)
        return ((cells - mean) / deviation).view(images.shape)

    def _hidden_units(self, batch: Batch) -> Tensor:
        """Draw which units (B, *units) are hidden, on the CPU."""
        drawn = masks_of_ratio(
            self.mask_shape, batch.n_drawn, self.units, self.mask_ratio, batch.rng
        )
        return batch.mine(drawn).view(-1, *self.units)

    def _pixels(self, prediction: Tensor, sides: tuple[int, ...]) -> Tensor:
        """Lay out predictions as pixels (B, C, *sides)."""
        return within(pixels_of_places(prediction, self.cell), sides)

    def _cells(self, images: Tensor) -> Tensor:
        """Return the pixels of every unit, (B, C, u, h, v, w), or with three such pairs."""
        pairs = zip(self.units, images.shape[2:], strict=True)
        cut = [size for units, side in pairs for size in (units, side // units)]
        return images.reshape(*images.shape[:2], *cut)

    @staticmethod
    def _scale(cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of every unit and channel."""
        variance, mean = torch.var_mean(cells, dim=tuple(range(3, cells.ndim, 2)), keepdim=True)
        return mean, (variance + FLAT).sqrt()

    def encode(self, images: Tensor, units: Tensor) -> Tensor:
        """Return the last map (B, C, H', W') of images whose ``units`` (B, *units) are hidden."""
        if isinstance(self.backbone, TokenBackbone):
            grid = self.backbone.grid
            hidden = enlarged(units, grid).flatten(1)
            tokens = self.backbone.encode_tokens(images, hidden=hidden, mask_token=self.mask_token)
            return tokens[:, 1:].transpose(1, 2).reshape(len(images), -1, *grid)
        hidden = enlarged(units, tuple(images.shape[2:]))[:, None]
        colour = self.mask_token.to(images.dtype).view(-1, *[1] * len(self.units))
        return self.backbone.features(torch.where(hidden, colour, images))[-1]


def divisor(side: int, wanted: int) -> int:
    """Return the divisor of ``side``, from 2 on, nearest to ``wanted``; of two the smaller."""
    return min((n for n in range(2, side + 1) if side % n == 0), key=lambda n: abs(n - wanted))
