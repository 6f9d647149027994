"""Judging: an encoder meets the labels of a budget, and the test patients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from melssl.artifacts import (
    BUDGET,
    CURVES,
    EMBEDDINGS,
    FACTS,
    LAYERS,
    MASK_SCORES,
    PREDICTIONS,
    REPLICATES,
    SCORES,
    SLICES,
    STATE,
    WEIGHTS,
    Place,
    write_json,
)
from melssl.backbones.base import Backbone
from melssl.encoders import load_backbone
from melssl.errors import ArtifactError
from melssl.evaluation.mask_scores import MaskScores
from melssl.evaluation.metadata import features, metadata_columns
from melssl.evaluation.metrics import METRICS, score_all
from melssl.evaluation.operating import OperatingPoints, operating_points
from melssl.evaluation.overlap import mask_scores
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.protocols.base import Evidence, Segmented, Verdict
from melssl.evaluation.segmenting.slices import shown_slices
from melssl.evaluation.tested import Tested
from melssl.evaluation.uncertainty import Resamples, bootstrap_scores
from melssl.methods.weights import LoadReport
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import Json, digest
from melssl.spec import RunSpec
from melssl.splits.budgets import LabelledSubset
from melssl.stages import Stage
from melssl.training.devices import Rank

RESAMPLES = Resamples()
RATES = ("sensitivity", "specificity")
INTERVAL_METRICS = (
    "roc_auc",
    "within_camera_auc",
    "average_precision",
    "sensitivity_at_90_specificity",
    *(f"{rate}_at_budget_threshold_{at}" for at in (95, 90) for rate in RATES),
    "balanced_accuracy",
    "patient_roc_auc",
    "patient_balanced_accuracy",
    "brier",
    "log_loss",
    *(name for name, metric in METRICS.items() if metric.kind == "masks"),
)


def judge(rank: Rank, stage: Stage, prepared: Prepared, place: Place) -> None:
    """Adapt to the budget, score the test patients, and leave predictions, scores, replicates."""
    spec, started = stage.spec, time.monotonic()
    budget = prepared.budget(spec)
    reports: list[LoadReport] = []
    evidence = evidence_of(spec, prepared, budget, place, rank, reports)
    verdict = spec.protocol.judge(evidence)
    if isinstance(verdict, Segmented):
        points = OperatingPoints(reason="masks are no scores")
        tested: Tested = _scored_masks(verdict, evidence, prepared, place)
        reports[0] = replace(reports[0], fresh=verdict.fresh)
    else:
        assert isinstance(verdict, Verdict)
        points = operating_points(spec.protocol, evidence)
        tested = _predictions(verdict, points, evidence.test, prepared, budget)
        tested.save(place.out / PREDICTIONS)
    write_json(place.out / SCORES, score_all(tested))
    np.savez(place.out / REPLICATES, allow_pickle=False, **replicates(tested))
    write_json(place.out / CURVES, verdict.log.curves)
    numbers = {
        "n_images": budget.n_images,
        "n_patients": budget.n_patients,
        "n_positives": budget.n_positives,
        "samples": digest(list(budget.sample_ids)),
    }
    write_json(place.out / BUDGET, numbers)
    facts: dict[str, Json] = {
        "seconds": time.monotonic() - started,
        "thresholds": points.plain(),
        "chosen": dict(verdict.chosen),
    }
    if reports:
        facts["weights"] = reports[0].plain()
    write_json(place.out / FACTS, facts)


def evidence_of(
    spec: RunSpec,
    prepared: Prepared,
    budget: LabelledSubset,
    place: Place,
    rank: Rank,
    reports: list[LoadReport],
) -> Evidence:
    """Return what the protocol may look at: of all labels, those of the budget."""
    frame, reads = prepared.cohort.frame, spec.protocol.reads
    target = frame["target"].to_numpy(np.int64)
    train = np.flatnonzero(frame["sample_id"].isin(set(budget.sample_ids)))
    tested = frame["patient_id"].isin(prepared.fold(spec).test)
    masks = prepared.masks().only(train) if spec.protocol.judges == "masks" else None
    return Evidence(
        n_classes=len(prepared.cohort.classes),
        train=train,
        train_target=target[train],
        test=np.flatnonzero(tested & (target >= 0)),
        pool=np.flatnonzero(frame["patient_id"].isin(prepared.learned_from(spec))),
        patient=frame["patient_id"].to_numpy(object),
        seed=Seed(spec.seed).child("adapt", spec.fold, spec.budget.draw),
        embeddings=_embeddings(place, len(frame)) if reads == "embeddings" else None,
        layers=_layers(place, len(frame)) if reads == "layers" else (),
        metadata=lambda columns: features(frame, metadata_columns(prepared.cohort, columns)),
        masks=masks,
        structures=prepared.cohort.structures,
        backbone=_loader(spec, place, reports),
        images=prepared.images(),
        frame=spec.frame,
        rank=rank,
        encoder_saw_labels=spec.method_class.uses_labels,
        state_file=place.work / STATE,
        checkpoint_seconds=place.runtime.checkpoint_seconds,
        listen=place.listen,
    )


def _predictions(
    verdict: Verdict,
    points: OperatingPoints,
    test: np.ndarray,
    prepared: Prepared,
    budget: LabelledSubset,
) -> Predictions:
    frame, cameras = prepared.cohort.frame.iloc[test], prepared.cohort.cameras
    return Predictions(
        sample_id=frame["sample_id"].to_numpy(object),
        patient_id=frame["patient_id"].to_numpy(object),
        target=frame["target"].to_numpy(np.int64),
        probability=verdict.probability,
        prior=budget.prior,
        camera=None if cameras is None else cameras.to_numpy(object)[test],
        thresholds=points.thresholds,
        per_patient=prepared.cohort.medium.per_patient,
    )


def _scored_masks(
    verdict: Segmented, evidence: Evidence, prepared: Prepared, place: Place
) -> MaskScores:
    """Score the drawn masks of the test volumes by the true ones; leave scores and some slices."""
    frame, rows = prepared.cohort.frame.iloc[evidence.test], evidence.test
    true, spacing = zip(*prepared.masks().each(rows), strict=True)
    scores = mask_scores(
        frame["sample_id"].to_numpy(object),
        frame["patient_id"].to_numpy(object),
        evidence.structures,
        verdict.labels,
        true,
        spacing,
    )
    scores.save(place.out / MASK_SCORES)
    slices = shown_slices(scores, verdict.labels, true, evidence.images, rows)
    np.savez_compressed(place.out / SLICES, allow_pickle=False, **slices)
    return scores


def replicates(predictions: Tested) -> dict[str, np.ndarray]:
    """Return each interval metric under resampled test patients, (R,) float32.

    All trials share the redraws, so the replicates of any two can be paired. They are made here,
    once and by the workers, so that collecting a study is a matter of means.
    """
    weights = RESAMPLES.weights(predictions.patients)
    return {
        name: bootstrap_scores(predictions, METRICS[name], weights).astype(np.float32)
        for name in INTERVAL_METRICS
        if METRICS[name].exists_for(predictions)
    }


def _embeddings(place: Place, n_samples: int) -> np.ndarray:
    path = place.inputs["embed"] / EMBEDDINGS
    return _whole(_read(path, path.stat().st_mtime_ns), n_samples, place)


@lru_cache(maxsize=1)  # the probes of an encoder come one after another
def _read(path: Path, changed_ns: int) -> np.ndarray:
    embeddings: np.ndarray = np.load(path, allow_pickle=False)
    embeddings.flags.writeable = False
    return embeddings


def _layers(place: Place, n_samples: int) -> tuple[np.ndarray, ...]:
    """Return the layers in order; only the one that is used is read from file."""
    files = sorted(place.inputs["embed"].glob(LAYERS))
    layers = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
    return tuple(_whole(layer, n_samples, place) for layer in layers)


def _whole(embeddings: np.ndarray, n_samples: int, place: Place) -> np.ndarray:
    if len(embeddings) != n_samples:
        raise ArtifactError(
            f"{place.inputs['embed']}: {len(embeddings)} embeddings for {n_samples} samples; "
            "delete the folder and run again"
        )
    return embeddings


def _loader(spec: RunSpec, place: Place, reports: list[LoadReport]) -> Callable[[], Backbone]:
    """Return what builds the encoder; each time it adds to ``reports`` what it loaded."""
    spec = spec.replace(backbone=spec.protocol.backbone_config(spec.backbone))

    def load() -> Backbone:
        backbone, report = load_backbone(spec, place.inputs["pretrain"] / WEIGHTS)
        reports.append(report)
        return backbone

    return load
