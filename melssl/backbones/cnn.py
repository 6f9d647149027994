"""Convolutional nets: any timm model with pooled features, and a small one for a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from timm.models.resnet import ResNet
from torch import Tensor, nn

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.backbones.timm_nets import make_net, stages_of, timm_class
from melssl.errors import BackboneError
from melssl.frame import ALL_MEDIA, Frame, Kind
from melssl.settings import Later

STEM_STANDARD_FROM_PX = 112
STEM_STRIDE1_BELOW_PX = 40
LAYERS = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}


class SmallCnnBackbone(Backbone):
    """Blocks of 3x3 (3x3x3) convolution, batch norm and ReLU; every block halves the sample.

    A depth of one stays one.
    """

    def __init__(self, widths: list[int], frame: Frame) -> None:
        super().__init__()
        blocks, before = [], frame.channels
        for width in widths:
            blocks.append(_block(before, width, frame.n_dims))
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
        return features.flatten(2).mean(dim=2)

    def stages(self) -> list[nn.Module]:
        """Return the blocks."""
        return list(self.blocks)


def _block(before: int, width: int, n_dims: int) -> nn.Sequential:
    convolution, norm = LAYERS[n_dims]
    return nn.Sequential(
        convolution(before, width, 3, stride=2, padding=1, bias=False),
        norm(width),
        nn.ReLU(inplace=True),
        convolution(width, width, 3, padding=1, bias=False),
        norm(width),
        nn.ReLU(inplace=True),
    )


class SmallCnn(BackboneConfig):
    """A CNN of eight layers, by default 1.2 M weights: an epoch in seconds on one core."""

    label: ClassVar[str] = "small CNN"
    media: ClassVar[frozenset[Kind]] = ALL_MEDIA
    family: Literal["small_cnn"] = "small_cnn"
    first_width: int = Field(32, ge=8, description="channels of the first block; doubled by each")
    n_blocks: int = Field(4, ge=2, le=6)

    def make(self, frame: Frame) -> SmallCnnBackbone:
        """Return a randomly initialised small CNN."""
        if frame.side_px < 2**self.n_blocks:
            raise BackboneError(
                f"small_cnn halves the image {self.n_blocks} times, but it has {frame.side_px} px"
                " only; use fewer blocks or larger images"
            )
        return SmallCnnBackbone([self.first_width * 2**i for i in range(self.n_blocks)], frame)


class TimmCnnBackbone(Backbone):
    """A timm model that returns pooled features, made for images of ``image_px``.

    Most see other sizes too; where one does not, that is a BackboneError.
    """

    def __init__(self, net: nn.Module, image_px: int) -> None:
        super().__init__()
        self.net = net.eval()
        self.image_px = image_px
        blank = torch.zeros(1, 3, image_px, image_px)
        try:
            with torch.no_grad():
                (_, self.width), maps = self(blank).shape, self.features(blank)
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise BackboneError(
                f"timm's {type(net).__name__} cannot turn images of {image_px} px into embeddings "
                f"and maps ({error}); choose another image_px or backbone, such as resnet18"
            ) from error
        self.map_width = maps[-1].shape[1]
        self.train()

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the map of every stage of the net, the last after all that precedes pooling."""
        with self._at(images.shape[-1]):
            last, maps = self.net.forward_intermediates(  # type: ignore[operator]
                images, norm=True, output_fmt="NCHW"
            )
        if last.ndim != 4:  # tokens, which the last map already shows
            return list(maps)
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            last = last.permute(0, 3, 1, 2)
        return [*maps[:-1], last]

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (B, width)."""
        with self._at(images.shape[-1]):
            features: Tensor = self.net(images)
        return features

    @contextmanager
    def _at(self, image_px: int) -> Iterator[None]:
        """Say what to do where the net fails on images of another size than it was made for."""
        try:
            yield
        except (AssertionError, RuntimeError, ValueError) as error:
            if image_px == self.image_px or isinstance(error, torch.OutOfMemoryError):
                raise
            raise BackboneError(
                f"{type(self.net).__name__}, made for {self.image_px} px, cannot see images of "
                f"{image_px} px ({error}); show them larger, or use a ResNet, EfficientNet, "
                "TinyViT, Swin or small_cnn, which see any size, or a ViT"
            ) from error

    def stages(self) -> list[nn.Module]:
        """Return the stem and each stage, the last with all that follows it."""
        return stages_of(self.net)


class TimmCnn(BackboneConfig):
    """A timm model by name: a CNN, or a transformer in stages (TinyViT, Swin).

    ``stem`` adapts a ResNet's first layers to small images. ``window`` is the side of the attention
    windows of a Swin, in places of its map: any works; one that divides the map pads nothing.
    """

    label: ClassVar[str] = "timm CNN"
    family: Literal["cnn"] = "cnn"
    model: str = "resnet10t"
    stem: Literal["auto", "standard", "stride2", "stride1"] = "auto"
    drop_path: float = Field(0.0, ge=0, lt=1)
    window: Annotated[int | None, Later()] = Field(None, ge=1, description="None: the model's own")

    def make(self, frame: Frame) -> TimmCnnBackbone:
        """Return a randomly initialised timm model."""
        image_px = frame.side_px
        stem = self.stem if self.stem != "auto" else _stem_for(image_px)
        is_resnet = issubclass(timm_class(self.model), ResNet)
        if self.stem in ("stride1", "stride2") and not is_resnet:
            raise BackboneError(
                f"stem {self.stem!r} is for ResNets; {self.model!r} keeps its own: use stem=auto"
            )
        net = make_net(
            self.model,
            self.drop_path,
            {} if self.window is None else {"window_size": self.window},
            {"img_size": image_px, "dynamic_img_size": True},
        )
        if stem != "standard" and isinstance(net, ResNet):
            _small_stem(net, stride=2 if stem == "stride2" else 1)
        return TimmCnnBackbone(net, image_px)


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
