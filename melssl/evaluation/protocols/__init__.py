"""The one list of protocols."""

from __future__ import annotations

from melssl.evaluation.protocols.base import Protocol
from melssl.evaluation.protocols.fine_tune import FineTune
from melssl.evaluation.protocols.knn import Knn
from melssl.evaluation.protocols.linear_probe import LinearProbe

PROTOCOLS: dict[str, type[Protocol]] = {
    "linear_probe": LinearProbe,
    "knn": Knn,
    "fine_tune": FineTune,
}
