"""The ResNet for small images: three stages of n two-layer blocks, without a weight too many."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.frame import Frame

STAGES = 3
LAYERS_PER_BLOCK = 2


class CifarResNetBackbone(Backbone):
    """``6 n + 2`` layers (He et al. 2016, section 4.2), the last of which, the classifier, is left
    to whoever uses the net: a 3x3 convolution and three stages of n blocks, at whole, half and
    quarter size, twice as wide each time; then the mean over places.
    """

    def __init__(self, n_blocks: int, first_width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(3, first_width, 1), nn.ReLU(inplace=True))
        stages, before = [], first_width
        for index in range(STAGES):
            width = first_width * 2**index
            strides = [1 if index == 0 else 2] + [1] * (n_blocks - 1)
            widths = [before] + [width] * (n_blocks - 1)
            blocks = [_Block(w, width, s) for w, s in zip(widths, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.blocks = nn.ModuleList(stages)
        self.width = self.map_width = before

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the map of the stem and of every stage."""
        maps: list[Tensor] = [self.stem(images)]
        for stage in self.blocks:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over places of the last stage, (B, width)."""
        return self.features(images)[-1].mean(dim=(2, 3))

    def stages(self) -> list[nn.Module]:
        """Return the stem and the three stages."""
        return [self.stem, *self.blocks]


class _Block(nn.Module):
    """Two convolutions beside a shortcut that has no weights (option A of the paper)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra = width - before
        self.first = nn.Sequential(*_conv_norm(before, width, stride), nn.ReLU(inplace=True))
        self.second = nn.Sequential(*_conv_norm(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H / stride, W / stride); new channels of the shortcut are zero."""
        short = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return torch.relu(self.second(self.first(x)) + short)


def _conv_norm(before: int, width: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(width)


class CifarResNet(BackboneConfig):
    """The ResNet of small images; ``resnet20`` has 0.27 M weights and sees maps of whole size."""

    label: ClassVar[str] = "CIFAR ResNet"
    family: Literal["cifar_resnet"] = "cifar_resnet"
    depth: int = Field(20, ge=8, description="6 n + 2 layers: 20, 32, 44, 56, 110")
    first_width: int = Field(16, ge=4, description="channels of the first stage")

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 2) % (STAGES * LAYERS_PER_BLOCK):
            raise ValueError("expected 6 n + 2 layers: 20, 32, 44, 56 or 110")
        return depth

    def make(self, frame: Frame) -> CifarResNetBackbone:
        """Return a randomly initialised net; it sees images of any size."""
        n_blocks = (self.depth - 2) // (STAGES * LAYERS_PER_BLOCK)
        return CifarResNetBackbone(n_blocks, self.first_width)
