"""Linear probe: regularised logistic regression on frozen embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from melssl.evaluation.protocols.base import Evidence
from melssl.evaluation.protocols.probe import Probe


class LinearProbe(Probe):
    """Multinomial logistic regression with a Gaussian prior on standardised embeddings."""

    label: ClassVar[str] = "linear probe"
    name: Literal["linear_probe"] = "linear_probe"

    def blocks(self, evidence: Evidence) -> tuple[np.ndarray, ...]:
        """Return the embeddings."""
        assert evidence.embeddings is not None
        return (evidence.embeddings,)
