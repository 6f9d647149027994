"""A net of images that looks at every frame of a clip, and what makes one embedding of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from melssl.backbones.base import Backbone, BackboneConfig
from melssl.backbones.cifar_resnet import CifarResNet
from melssl.backbones.cnn import SmallCnn, TimmCnn
from melssl.backbones.vit import SmallVit, TimmVit
from melssl.frame import Frame, Kind
from melssl.settings import choose

NETS: dict[str, type[BackboneConfig]] = {
    "small_cnn": SmallCnn,
    "small_vit": SmallVit,
    "cifar_resnet": CifarResNet,
    "cnn": TimmCnn,
    "vit": TimmVit,
}
"""The families that see single frames."""


class FrameNetBackbone(Backbone):
    """The mean of the frames' embeddings, or the last state of an LSTM that reads them in order.

    The mean knows no order: whatever it tells apart, frames tell apart. It is the control of all
    that claims to see motion.
    """

    def __init__(self, net: Backbone, state_width: int | None) -> None:
        super().__init__()
        self.net = net
        self.reader = nn.LSTM(net.width, state_width, batch_first=True) if state_width else None
        self.width = state_width or net.width
        self.map_width = state_width or net.map_width

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, width) of clips (B, C, D, H, W)."""
        embedded = self.net(_frames(images)).unflatten(0, (len(images), -1))
        return embedded.mean(dim=1) if self.reader is None else self._read(embedded)[:, -1]

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps (B, C, D, H', W') of the net, and (B, C, D, 1, 1) of the LSTM."""
        frames, n = _frames(images), len(images)
        flat = self.net.features(frames)
        maps = [m.view(n, -1, *m.shape[1:]).transpose(1, 2) for m in flat]
        if self.reader is None:
            return maps
        embedded = self.net(frames).unflatten(0, (n, -1))
        return [*maps, self._read(embedded).transpose(1, 2)[..., None, None]]

    def stages(self) -> list[nn.Module]:
        """Return the stages of the net, and the LSTM."""
        return [*self.net.stages(), *([] if self.reader is None else [self.reader])]

    def _read(self, embedded: Tensor) -> Tensor:
        """Return the state of the LSTM after every frame, (B, D, width)."""
        assert self.reader is not None
        states: Tensor = self.reader(embedded)[0]
        return states


def _frames(clips: Tensor) -> Tensor:
    """Return all frames of clips (B, C, D, H, W) as images (B D, C, H, W)."""
    return clips.transpose(1, 2).flatten(0, 1)


def _net(data: object) -> BackboneConfig:
    return choose(NETS, data, "family")


class FrameNet(BackboneConfig):
    """Any net of images for every frame; by default a small CNN, and the mean over time."""

    label: ClassVar[str] = "frame by frame"
    media: ClassVar[frozenset[Kind]] = frozenset({"volume", "clip"})
    family: Literal["frame_net"] = "frame_net"
    net: Annotated[SerializeAsAny[BackboneConfig], BeforeValidator(_net)] = SmallCnn()
    over_time: Literal["mean", "lstm"] = Field(
        "mean", description="the mean over frames, which knows no order, or an LSTM over them"
    )
    state_width: int = Field(256, ge=8, description="state of the LSTM, and its embedding")

    def make(self, frame: Frame) -> FrameNetBackbone:
        """Return a randomly initialised net."""
        one = Frame(frame.side_px, channels=frame.channels)
        state_width = self.state_width if self.over_time == "lstm" else None
        return FrameNetBackbone(self.net.build(one), state_width)
