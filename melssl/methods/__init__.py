"""The one list of methods; its order is the order of legends and tables."""

from __future__ import annotations

from melssl.methods.base import Method
from melssl.methods.mae import Mae
from melssl.methods.no_pretext import NoPretext, TimmWeights
from melssl.methods.simclr import SimClr

METHODS: dict[str, type[Method]] = {
    "no_pretext": NoPretext,
    "timm_weights": TimmWeights,
    "simclr": SimClr,
    "mae": Mae,
}
