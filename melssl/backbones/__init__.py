"""The one list of backbone families, and any timm model by its name."""

from __future__ import annotations

from melssl.backbones.base import BackboneConfig
from melssl.backbones.cifar_resnet import CifarResNet
from melssl.backbones.cnn import SmallCnn, TimmCnn
from melssl.backbones.frame_net import FrameNet
from melssl.backbones.resnet3d import ResNet3d
from melssl.backbones.vit import SmallVit, TimmVit
from melssl.errors import SpecError, nearest
from melssl.settings import choose

BACKBONES: dict[str, type[BackboneConfig]] = {
    "small_cnn": SmallCnn,
    "small_vit": SmallVit,
    "cifar_resnet": CifarResNet,
    "cnn": TimmCnn,
    "vit": TimmVit,
    "resnet3d": ResNet3d,
    "frame_net": FrameNet,
}
CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
VARIANTS: dict[str, dict[str, str | int]] = {
    **{name: {"family": "cifar_resnet", "depth": depth} for name, depth in CIFAR_RESNETS.items()},
    "r2plus1d": {"family": "resnet3d", "convolution": "2+1d"},
    "frame_lstm": {"family": "frame_net", "over_time": "lstm"},
}
"""Names for families with a setting."""


def backbone_config(data: object) -> BackboneConfig:
    """Return settings from a family's name, a model's name, or a mapping with ``family``.

    A model is one of timm's, a CIFAR ResNet such as ``resnet20``, or another of ``VARIANTS``.
    """
    if isinstance(data, str) and data in VARIANTS:
        return choose(BACKBONES, VARIANTS[data], "family")
    if isinstance(data, str) and data not in BACKBONES:
        import timm

        if not timm.is_model(data):
            known = [*BACKBONES, *VARIANTS, *timm.list_models(data[:6] + "*")[:20]]
            raise SpecError(
                f"backbone {data!r} is neither a family nor a timm model; {nearest(data, known)}"
            )
        plain_vit = data.startswith(("vit_", "deit_"))
        return TimmVit(model=data) if plain_vit else TimmCnn(model=data)
    return choose(BACKBONES, data, "family")
