"""The one list of methods; its order is the order of legends and tables."""

from __future__ import annotations

from melssl.methods.barlow_twins import BarlowTwins
from melssl.methods.base import Method
from melssl.methods.byol import Byol
from melssl.methods.clips.order_prediction import OrderPrediction
from melssl.methods.clips.order_verification import OrderVerification
from melssl.methods.clips.space_time_puzzle import SpaceTimePuzzle
from melssl.methods.clips.video_gan import VideoGan
from melssl.methods.clips.video_lstm import VideoLstm
from melssl.methods.colourisation import Colourisation
from melssl.methods.dino import Dino
from melssl.methods.exemplar import Exemplar
from melssl.methods.gmml import Gmml
from melssl.methods.ibot import IBot
from melssl.methods.ijepa import IJepa
from melssl.methods.image_metadata import ImageMetadata
from melssl.methods.jigsaw import Jigsaw
from melssl.methods.mae import Mae
from melssl.methods.metadata import Metadata, MetadataAll, MetadataClinical
from melssl.methods.moco_v2 import MoCoV2
from melssl.methods.moco_v3 import MoCoV3
from melssl.methods.no_pretext import NoPretext, TimmWeights
from melssl.methods.relative_position import RelativePosition
from melssl.methods.rotation import Rotation
from melssl.methods.simclr import SimClr
from melssl.methods.simmim import SimMim
from melssl.methods.simsiam import SimSiam
from melssl.methods.sit import Sit
from melssl.methods.sit_2022 import Sit2022
from melssl.methods.supcon import SupCon
from melssl.methods.supervised import Supervised
from melssl.methods.swav import Swav
from melssl.methods.vicreg import VicReg
from melssl.methods.volumes.rubik import Rubik
from melssl.methods.volumes.rubik_plus import RubikPlus
from melssl.methods.volumes.volume_autoencoder import VolumeAutoencoder

METHODS: dict[str, type[Method]] = {
    "no_pretext": NoPretext,
    "timm_weights": TimmWeights,
    "supervised": Supervised,
    "supcon": SupCon,
    "simclr": SimClr,
    "moco_v2": MoCoV2,
    "moco_v3": MoCoV3,
    "byol": Byol,
    "simsiam": SimSiam,
    "barlow_twins": BarlowTwins,
    "vicreg": VicReg,
    "swav": Swav,
    "dino": Dino,
    "mae": Mae,
    "simmim": SimMim,
    "ibot": IBot,
    "i_jepa": IJepa,
    "gmml": Gmml,
    "sit": Sit,
    "sit_2022": Sit2022,
    "rotation": Rotation,
    "jigsaw": Jigsaw,
    "relative_position": RelativePosition,
    "exemplar": Exemplar,
    "colourisation": Colourisation,
    "order_verification": OrderVerification,
    "order_prediction": OrderPrediction,
    "space_time_puzzle": SpaceTimePuzzle,
    "video_gan": VideoGan,
    "video_lstm": VideoLstm,
    "rubik": Rubik,
    "rubik_plus": RubikPlus,
    "volume_autoencoder": VolumeAutoencoder,
    "image_metadata": ImageMetadata,
    "metadata_clinical": MetadataClinical,
    "metadata_all": MetadataAll,
    "metadata": Metadata,
}
