"""The one list of methods; its order is the order of legends and tables."""

from __future__ import annotations

from melssl.methods.base import Method
from melssl.methods.mae import Mae
from melssl.methods.metadata import Metadata, MetadataAll, MetadataClinical
from melssl.methods.no_pretext import NoPretext, TimmWeights
from melssl.methods.simclr import SimClr
from melssl.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "no_pretext": NoPretext,
    "timm_weights": TimmWeights,
    "supervised": Supervised,
    "simclr": SimClr,
    "mae": Mae,
    "metadata_clinical": MetadataClinical,
    "metadata_all": MetadataAll,
    "metadata": Metadata,
}
