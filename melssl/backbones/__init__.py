"""The one list of backbone families, and any timm model by its name."""

from __future__ import annotations

from melssl.backbones.base import BackboneConfig
from melssl.backbones.cnn import SmallCnn, TimmCnn
from melssl.backbones.vit import SmallVit, TimmVit
from melssl.errors import SpecError, nearest
from melssl.settings import choose

BACKBONES: dict[str, type[BackboneConfig]] = {
    "small_cnn": SmallCnn,
    "small_vit": SmallVit,
    "cnn": TimmCnn,
    "vit": TimmVit,
}


def backbone_config(data: object) -> BackboneConfig:
    """Return settings from a family's name, a timm model's name, or a mapping with ``family``."""
    if isinstance(data, str) and data not in BACKBONES:
        import timm

        if not timm.is_model(data):
            raise SpecError(
                f"backbone {data!r} is neither a family nor a timm model; "
                f"{nearest(data, [*BACKBONES, *timm.list_models(data[:6] + '*')[:20]])}"
            )
        plain_vit = data.startswith(("vit_", "deit_"))
        return TimmVit(model=data) if plain_vit else TimmCnn(model=data)
    return choose(BACKBONES, data, "family")
