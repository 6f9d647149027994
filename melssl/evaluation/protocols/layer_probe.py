"""Layer probe: the linear probe at one stage or block, on pooled features of comparable width."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from melssl.backbones.base import BackboneConfig
from melssl.data.cohort import Cohort
from melssl.errors import SpecError
from melssl.evaluation.layers import layer_widths
from melssl.evaluation.protocols.base import Evidence, Reads
from melssl.evaluation.protocols.probe import Probe
from melssl.frame import Frame
from melssl.settings import Json


class LayerProbe(Probe):
    """Multinomial logistic regression on the features of one layer (Goyal et al. 2019).

    Every map is averaged down to the largest square of at most ``width`` numbers, so that a layer
    is not better for being wider; features are standardised by the pool without a learnt scale or
    shift. All layers are stored by one pass over the images, which every layer, budget and draw
    shares. The control's curve over layers comes from its own random weights.
    """

    label: ClassVar[str] = "layer probe"
    reads: ClassVar[Reads] = "layers"
    name: Literal["layer_probe"] = "layer_probe"
    layer: int = Field(-1, ge=-1, description="stage or block, from 1 at the input; -1: the last")
    width: int = Field(1024, ge=1, description="most numbers of a layer, if its channels allow")

    @field_validator("layer")
    @classmethod
    def _counted_from_one(cls, layer: int) -> int:
        if layer == 0:
            raise ValueError("layers are counted from 1; -1 is the last")
        return layer

    def encoded(self) -> dict[str, Json]:
        """Return the width; the layer is not in the key, so all layers share one pass."""
        return {"layers": self.width}

    def check(self, config: BackboneConfig, frame: Frame, cohort: Cohort) -> None:
        """Refuse a layer that the backbone does not have."""
        if self.layer > 1:
            self._refuse_beyond(len(layer_widths(config, frame, self.width)))

    def blocks(self, evidence: Evidence) -> tuple[np.ndarray, ...]:
        """Return the features of the layer."""
        self._refuse_beyond(len(evidence.layers))
        return (evidence.layers[self.layer - 1 if self.layer > 0 else -1],)

    def _refuse_beyond(self, n_layers: int) -> None:
        if self.layer > n_layers:
            raise SpecError(
                f"protocol.layer: expected 1..{n_layers}, or -1 for the last, got {self.layer};"
                f" this backbone has {n_layers} stages or blocks"
            )
