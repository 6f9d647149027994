"""Backbones and methods as a run describes them: fresh from the seed, or with stored weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from melssl.backbones import BACKBONES
from melssl.backbones.base import Backbone
from melssl.errors import BackboneError
from melssl.methods.base import Method, PoolFacts
from melssl.methods.weights import LoadReport, load_start, load_whole
from melssl.pool import Pool
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.training.checkpoint import below, load_tensors


def build_method(spec: RunSpec, seen: Pool, n_classes: int) -> Method:
    """Return the method with its initial weights; the backbone's do not depend on the method.

    Raises:
        ArtifactError: the file of ``spec.init`` does not hold the whole backbone.

    """
    facts = PoolFacts(
        n_samples=len(seen.rows),
        n_patients=len(set(seen.patients)),
        image_px=spec.image_px,
        depth=spec.frame.depth,
        channels=spec.frame.channels,
        n_classes=n_classes if spec.method_class.uses_labels else 0,
        metadata_width=0 if seen.metadata is None else seen.metadata.shape[1],
    )
    backbone = build_backbone(spec)
    started = load_start(backbone, spec.init) if spec.init else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seed(spec.seed).child("method").value)
        method = spec.method_class(spec.method, backbone, facts)
    method.loaded = method.loaded or started
    return method


def build_backbone(spec: RunSpec) -> Backbone:
    """Return the backbone as the seed initialises it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seed(spec.seed).child("backbone").value)
        return spec.backbone.build(spec.frame)


def served(spec: RunSpec, families: Iterable[str] = BACKBONES) -> RunSpec:
    """Return the run on the first family of backbones that its method can use.

    Its own is left in place where that is of one of the families and can be used; where none can,
    the first is taken, and building it says why.
    """
    families = list(families)
    own = [spec] if spec.backbone.family in families else []
    runs = [*own, *(spec.replace(backbone=family) for family in families)]
    return next((run for run in runs if _is_served(run)), runs[0])


def _is_served(spec: RunSpec) -> bool:
    """Say whether the backbone gives the method what it asks for; a control asks for nothing."""
    facts = PoolFacts(
        n_samples=256,
        n_patients=256,
        image_px=spec.image_px,
        depth=spec.frame.depth,
        channels=spec.frame.channels,
        n_classes=2,
        metadata_width=1,
    )
    if not spec.method_class.trains:
        return True
    try:
        with torch.random.fork_rng(devices=[]):
            spec.method_class(spec.method, spec.backbone.build(spec.frame), facts)
    except BackboneError:
        return False
    return True


def load_backbone(spec: RunSpec, weights: Path) -> tuple[Backbone, LoadReport]:
    """Return the backbone with pretrained weights, all of which must be there, and the report."""
    backbone = build_backbone(spec)
    tensors, _ = load_tensors(weights)
    return backbone, load_whole(backbone, below("backbone.", tensors), str(weights))
