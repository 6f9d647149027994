"""SimMIM: hide units of the image, predict their pixels by one layer; for every backbone."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone, TokenBackbone
from melssl.data.views import ViewRecipe
from melssl.methods.base import (
    Batch,
    Method,
    MethodConfig,
    PoolFacts,
    full_precision,
    mean_count,
)
from melssl.methods.masking import MaskShape, masks_of_ratio
from melssl.space import Dimension
from melssl.training.loop import StepResult

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

    def __init__(self, config: SimMimConfig, backbone: Backbone, facts: PoolFacts) -> None:
        super().__init__(config, backbone, facts)
        self.backbone = backbone
        self.mask_ratio, self.mask_shape = config.mask_ratio, config.mask_shape
        self.normalise_target = config.normalise_target
        if isinstance(backbone, TokenBackbone):
            sides, self.cell_px = backbone.grid, backbone.patch_px
            self.mask_token = nn.Parameter(0.02 * torch.randn(backbone.width))
        else:
            sides, self.cell_px = (
                (facts.image_px, facts.image_px),
                backbone.place_px(facts.image_px),
            )
            self.mask_token = nn.Parameter(torch.zeros(3))
        self.units = (divisor(sides[0], config.mask_units), divisor(sides[1], config.mask_units))
        self.predict = nn.Conv2d(backbone.map_width, 3 * self.cell_px**2, 1)

    @classmethod
    def recipes(cls, config: MethodConfig, base: ViewRecipe) -> tuple[ViewRecipe, ...]:
        """Return one view of geometry only: colour is part of what is predicted."""
        return (base.replace(jitter=0, grayscale=0, solarise=0, blur=0, erase=0),)

    def step(self, batch: Batch) -> StepResult:
        """Return the error of the hidden pixels."""
        (images,) = batch.views
        drawn = masks_of_ratio(
            self.mask_shape, batch.n_drawn, self.units, self.mask_ratio, batch.rng
        )
        mask = batch.mine(drawn).to(images.device)
        units = mask.view(-1, *self.units)
        prediction = self.predict(self.encode(images, units))
        height, width = images.shape[-2:]
        with full_precision(prediction):
            pixels = F.pixel_shuffle(prediction.float(), self.cell_px)[..., :height, :width]
            gap = (pixels - self.target(images.float())).abs()
            hidden = enlarged(units, (height, width))[:, None]
            loss = (gap * hidden).sum() / (3 * mean_count(hidden.sum()))
        return StepResult(loss=loss, parts={"mask_ratio": mask.float().mean()})

    def target(self, images: Tensor) -> Tensor:
        """Return the pixels (B, 3, H, W) that are to be predicted."""
        if not self.normalise_target:
            return images
        down, across = images.shape[-2] // self.units[0], images.shape[-1] // self.units[1]
        cells = images.reshape(-1, 3, self.units[0], down, self.units[1], across)
        variance, mean = torch.var_mean(cells, dim=(3, 5), keepdim=True)
        return ((cells - mean) / (variance + FLAT).sqrt()).view(images.shape)

    def encode(self, images: Tensor, units: Tensor) -> Tensor:
        """Return the last map (B, C, H', W') of images whose ``units`` (B, u, v) are hidden."""
        if isinstance(self.backbone, TokenBackbone):
            grid = self.backbone.grid
            hidden = enlarged(units, grid).flatten(1)
            tokens = self.backbone.encode_tokens(images, hidden=hidden, mask_token=self.mask_token)
            return tokens[:, 1:].transpose(1, 2).reshape(len(images), -1, *grid)
        hidden = enlarged(units, (images.shape[-2], images.shape[-1]))[:, None]
        colour = self.mask_token.to(images.dtype)[:, None, None]
        return self.backbone.features(torch.where(hidden, colour, images))[-1]


def enlarged(units: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mask (B, *size) in which every unit of (B, u, v) covers an equal rectangle."""
    down, across = size[0] // units.shape[1], size[1] // units.shape[2]
    return units.repeat_interleave(down, dim=1).repeat_interleave(across, dim=2)


def divisor(side: int, wanted: int) -> int:
    """Return the divisor of ``side``, from 2 on, nearest to ``wanted``; of two the smaller."""
    return min((n for n in range(2, side + 1) if side % n == 0), key=lambda n: abs(n - wanted))
