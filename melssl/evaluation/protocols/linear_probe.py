"""Linear probe: regularised logistic regression on frozen embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal

from melssl.evaluation.protocols.probe import Probe


class LinearProbe(Probe):
    """Multinomial logistic regression with a Gaussian prior on standardised embeddings."""

    label: ClassVar[str] = "linear probe"
    name: Literal["linear_probe"] = "linear_probe"
