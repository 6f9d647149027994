"""A small ResNet in three dimensions, with whole kernels or with space and time apart."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.frame import Frame, Kind

Convolution = Literal["3d", "2+1d"]
STAGES = 4


class ResNet3dBackbone(Backbone):
    """A stem that halves the picture, and four stages of two-layer blocks; the mean over places.

    From the second stage on each halves all three sides and doubles the width.
    """

    def __init__(
        self, channels: int, first_width: int, n_blocks: int, convolution: Convolution
    ) -> None:
        super().__init__()
        self.stem = _layer(channels, first_width, (1, 2, 2), convolution)
        stages, before = [], first_width
        for index in range(STAGES):
            width = first_width * 2**index
            stride = 1 if index == 0 else 2
            blocks = [_Block(before, width, stride, convolution)]
            blocks += [_Block(width, width, 1, convolution) for _ in range(n_blocks - 1)]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.blocks = nn.ModuleList(stages)
        self.width = self.map_width = before

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the map (B, C, D', H', W') of the stem and of every stage."""
        maps: list[Tensor] = [self.stem(images)]
        for stage in self.blocks:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over places of the last stage, (B, width)."""
        return self.features(images)[-1].mean(dim=(2, 3, 4))

    def stages(self) -> list[nn.Module]:
        """Return the stem and the four stages."""
        return [self.stem, *self.blocks]


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is one of 1 x 1 x 1 where the size changes."""

    def __init__(self, before: int, width: int, stride: int, convolution: Convolution) -> None:
        super().__init__()
        strides = (stride, stride, stride)
        self.first = _layer(before, width, strides, convolution)
        self.second = _layer(width, width, (1, 1, 1), convolution)[:-1]  # the sum is rectified
        same = before == width and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(
            nn.Conv3d(before, width, 1, stride=stride, bias=False), nn.BatchNorm3d(width)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, ...), each side divided by the stride."""
        return torch.relu(self.second(self.first(x)) + self.short(x))


def _layer(
    before: int, width: int, stride: tuple[int, int, int], convolution: Convolution
) -> nn.Sequential:
    """Return a convolution of 3 x 3 x 3, or one in space and one in time, each normed, rectified.

    Between the two lie as many channels as give both together the weights of the whole one (Tran et
    al. 2018, arXiv 1711.11248, section 3.5).
    """
    time, down, across = stride
    if convolution == "3d":
        return nn.Sequential(*_conv(before, width, (3, 3, 3), stride))
    between = max(27 * before * width // (9 * before + 3 * width), 1)
    return nn.Sequential(
        *_conv(before, between, (1, 3, 3), (1, down, across)),
        *_conv(between, width, (3, 1, 1), (time, 1, 1)),
    )


def _conv(
    before: int, width: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> tuple[nn.Module, ...]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(before, width, kernel, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm3d(width), nn.ReLU(inplace=True)


class ResNet3d(BackboneConfig):
    """A 3-D ResNet, by default of ten layers and 0.9 M weights; ``2+1d`` is R(2+1)D."""

    label: ClassVar[str] = "3-D ResNet"
    media: ClassVar[frozenset[Kind]] = frozenset({"volume", "clip"})
    family: Literal["resnet3d"] = "resnet3d"
    convolution: Convolution = Field(
        "3d", description="whole kernels, or one in space and one in time with a norm between"
    )
    first_width: int = Field(16, ge=4, description="channels of the first stage; doubled by each")
    n_blocks: int = Field(1, ge=1, description="blocks of each stage")

    def make(self, frame: Frame) -> ResNet3dBackbone:
        """Return a randomly initialised net; it sees clips and volumes of any size."""
        return ResNet3dBackbone(frame.channels, self.first_width, self.n_blocks, self.convolution)
