"""The one list of backbone families, and any timm model by its name."""

from __future__ import annotations

from melssl.backbones.base import BackboneConfig
from melssl.backbones.cifar_resnet import CifarResNet
from melssl.backbones.cnn import SmallCnn, TimmCnn
from melssl.backbones.vit import SmallVit, TimmVit
from melssl.errors import SpecError, nearest
from melssl.settings import choose

BACKBONES: dict[str, type[BackboneConfig]] = {
    "small_cnn": SmallCnn,
    "small_vit": SmallVit,
    "cifar_resnet": CifarResNet,
    "cnn": TimmCnn,
    "vit": TimmVit,
}
CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


def backbone_config(data: object) -> BackboneConfig:
    """Return settings from a family's name, a model's name, or a mapping with ``family``.

    A model is one of timm's, or a CIFAR ResNet such as ``resnet20``.
    """
    if isinstance(data, str) and data in CIFAR_RESNETS:
        return CifarResNet(depth=CIFAR_RESNETS[data])
    if isinstance(data, str) and data not in BACKBONES:
        import timm

        if not timm.is_model(data):
            known = [*BACKBONES, *CIFAR_RESNETS, *timm.list_models(data[:6] + "*")[:20]]
            raise SpecError(
                f"backbone {data!r} is neither a family nor a timm model; {nearest(data, known)}"
            )
        plain_vit = data.startswith(("vit_", "deit_"))
        return TimmVit(model=data) if plain_vit else TimmCnn(model=data)
    return choose(BACKBONES, data, "family")
