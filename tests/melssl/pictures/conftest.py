"""Encoders as they were initialised: what pictures do not depend on is how well one was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from melssl.encoders import build_method
from melssl.pictures.subject import Subject
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.spec import RunSpec
from melssl.training.checkpoint import save_tensors

VIT = {"family": "small_vit", "patch_px": 8, "embed_width": 16, "depth": 2, "heads": 2}


@pytest.fixture(scope="session")
def subject_of(
    tiny: Prepared, tiny_spec: RunSpec, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Subject]:
    """Return a maker of subjects: a method on the small CNN, or on a ViT."""

    def make(method: str, *, vit: bool = False) -> Subject:
        spec = tiny_spec.replace(method=method)
        spec = spec.replace(backbone=VIT) if vit else spec
        built = build_method(spec, pool(spec, tiny), len(tiny.cohort.classes))
        weights: Path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
        save_tensors(weights, built.state_dict(), {})
        return Subject(spec=spec, prepared=tiny, weights=weights)

    return make
