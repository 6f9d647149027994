"""Backbones and methods as a run describes them: fresh from the seed, or with stored weights."""

from __future__ import annotations

from pathlib import Path

import torch

from melssl.backbones.base import Backbone
from melssl.methods.base import Method, PoolFacts
from melssl.methods.weights import LoadReport, load_whole
from melssl.pool import Pool
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.training.checkpoint import below, load_tensors


def build_method(spec: RunSpec, seen: Pool, n_classes: int) -> Method:
    """Return the method with its initial weights; the backbone's do not depend on the method."""
    facts = PoolFacts(
        n_samples=len(seen.rows),
        n_patients=len(set(seen.patients)),
        image_px=spec.image_px,
        n_classes=n_classes if spec.method_class.uses_labels else 0,
        metadata_width=0 if seen.metadata is None else seen.metadata.shape[1],
    )
    backbone = build_backbone(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seed(spec.seed).child("method").value)
        return spec.method_class(spec.method, backbone, facts)


def build_backbone(spec: RunSpec) -> Backbone:
    """Return the backbone as the seed initialises it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Seed(spec.seed).child("backbone").value)
        return spec.backbone.build(spec.image_px)


def load_backbone(spec: RunSpec, weights: Path) -> tuple[Backbone, LoadReport]:
    """Return the backbone with pretrained weights, all of which must be there, and the report."""
    backbone = build_backbone(spec)
    tensors, _ = load_tensors(weights)
    return backbone, load_whole(backbone, below("backbone.", tensors), str(weights))
