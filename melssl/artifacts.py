"""Place: where a stage reads and writes, and the names of what it leaves there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from melssl.stages import Kind
from melssl.training.devices import Runtime
from melssl.training.loop import Listener

WEIGHTS, EMBEDDINGS, PREDICTIONS = "weights.safetensors", "embeddings.npy", "predictions.parquet"
SCORES, CURVES, BUDGET, FACTS = "scores.json", "curves.json", "budget.json", "facts.json"
MASK_SCORES, SLICES = "masks.parquet", "slices.npz"
REPLICATES, STATE = "replicates.npz", "state.safetensors"
VIEWS = "views.npz"  # what is said of unseen images, view by view
LAYER, LAYERS = "layer-{:03d}.npy", "layer-*.npy"  # 1 is nearest to the input


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a stage reads and writes: finished inputs by kind, results, and what it may lose."""

    inputs: Mapping[Kind, Path]
    out: Path
    work: Path
    runtime: Runtime = field(default_factory=Runtime)
    listen: Listener | None = None


def write_json(path: Path, data: object) -> None:
    """Write JSON into a folder that others see when it is whole, and flushed, only."""
    path.write_text(json.dumps(data, indent=1))
