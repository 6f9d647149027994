"""The one list of protocols."""

from __future__ import annotations

from melssl.evaluation.protocols.base import Protocol
from melssl.evaluation.protocols.fine_tune import FineTune
from melssl.evaluation.protocols.fusion import Fusion
from melssl.evaluation.protocols.knn import Knn
from melssl.evaluation.protocols.layer_probe import LayerProbe
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.evaluation.protocols.partial_fine_tune import PartialFineTune
from melssl.evaluation.protocols.patient_set import PatientSet
from melssl.evaluation.protocols.pseudo_labels import PseudoLabels
from melssl.evaluation.protocols.segmentation import Segmentation

PROTOCOLS: dict[str, type[Protocol]] = {
    "linear_probe": LinearProbe,
    "knn": Knn,
    "fine_tune": FineTune,
    "partial_fine_tune": PartialFineTune,
    "layer_probe": LayerProbe,
    "fusion": Fusion,
    "patient_set": PatientSet,
    "pseudo_labels": PseudoLabels,
    "segmentation": Segmentation,
}
