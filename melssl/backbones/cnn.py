"""Convolutional nets: any timm model with pooled features, and a small one for a CPU."""

from __future__ import annotations

from typing import ClassVar, Literal

import timm
import torch
from pydantic import Field
from timm.models.resnet import ResNet
from torch import Tensor, nn

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.errors import BackboneError

STEM_STANDARD_FROM_PX = 112
STEM_STRIDE1_BELOW_PX = 40


class SmallCnnBackbone(Backbone):
    """Blocks of 3x3 convolution, batch norm and ReLU; every block halves the image."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        blocks, before = [], 3
        for width in widths:
            blocks.append(_block(before, width))
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.width = self.map_width = before

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the map of every block."""
        maps = [images]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[1:]

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean over places of the last block, (B, width)."""
        features: Tensor = self.blocks(images)
        return features.mean(dim=(2, 3))

    def stages(self) -> list[nn.Module]:
        """Return the blocks."""
        return list(self.blocks)


def _block(before: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class SmallCnn(BackboneConfig):
    """A CNN of eight layers, by default 1.2 M weights: an epoch in seconds on one core."""

    label: ClassVar[str] = "small CNN"
    family: Literal["small_cnn"] = "small_cnn"
    first_width: int = Field(32, ge=8, description="channels of the first block; doubled by each")
    n_blocks: int = Field(4, ge=2, le=6)

    def build(self, image_px: int) -> SmallCnnBackbone:
        """Return a randomly initialised small CNN."""
        if image_px < 2**self.n_blocks:
            raise BackboneError(
                f"small_cnn halves the image {self.n_blocks} times, but it has {image_px} px only; "
                "use fewer blocks or larger images"
            )
        return SmallCnnBackbone([self.first_width * 2**i for i in range(self.n_blocks)])


class TimmCnnBackbone(Backbone):
    """A timm model that returns pooled features."""

    def __init__(self, net: nn.Module, width: int, map_width: int) -> None:
        super().__init__()
        self.net = net
        self.width = width
        self.map_width = map_width

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the map of every stage of the net."""
        return _maps(self.net, images)

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (B, width)."""
        features: Tensor = self.net(images)
        return features

    def stages(self) -> list[nn.Module]:
        """Return the children that hold weights, in order from the input."""
        return [child for child in self.net.children() if any(True for _ in child.parameters())]


class TimmCnn(BackboneConfig):
    """A timm model by name. ``stem`` adapts a ResNet's first layers to small images."""

    label: ClassVar[str] = "timm CNN"
    family: Literal["cnn"] = "cnn"
    model: str = "resnet10t"
    stem: Literal["auto", "standard", "stride2", "stride1"] = "auto"
    drop_path: float = Field(0.0, ge=0, lt=1)

    def build(self, image_px: int) -> TimmCnnBackbone:
        """Return a randomly initialised timm model."""
        if not timm.is_model(self.model):
            raise BackboneError(
                f"timm {timm.__version__} has no model {self.model!r}; "
                f"close: {', '.join(timm.list_models(f'*{self.model[:8]}*')[:8]) or 'none'}"
            )
        net = timm.create_model(self.model, num_classes=0, drop_path_rate=self.drop_path)
        stem = self.stem if self.stem != "auto" else _stem_for(image_px)
        if stem != "standard" and isinstance(net, ResNet):
            _small_stem(net, stride=2 if stem == "stride2" else 1)
        elif self.stem in ("stride1", "stride2"):
            raise BackboneError(
                f"stem {self.stem!r} is for ResNets; {self.model!r} keeps its own: use stem=auto"
            )
        with torch.no_grad():
            blank = torch.zeros(1, 3, image_px, image_px)
            width = net.eval()(blank).shape[1]
            map_width = _maps(net, blank)[-1].shape[1]
        return TimmCnnBackbone(net.train(), width, map_width)


def _maps(net: nn.Module, images: Tensor) -> list[Tensor]:
    """Return timm's feature maps (B, C, H, W), one per stage."""
    maps: list[Tensor] = net.forward_intermediates(  # type: ignore[operator]
        images, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return maps


def _stem_for(image_px: int) -> str:
    if image_px >= STEM_STANDARD_FROM_PX:
        return "standard"
    return "stride2" if image_px >= STEM_STRIDE1_BELOW_PX else "stride1"


def _small_stem(net: ResNet, stride: int) -> None:
    """Replace a ResNet's 7x7 or deep stem by one 3x3 convolution and drop its max-pool."""
    width = net.bn1.num_features
    net.conv1 = nn.Conv2d(3, width, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
